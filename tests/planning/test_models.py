"""Model files of every kind and state: a plan reads no weights, loads nothing, and says what is wrong with a file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

import fastinfer
from fastinfer.errors import FastInferError, ModelLoadError, ModelNotFoundError, PresetError
from header_only import write_header

EMBEDDED = Path(fastinfer.__file__).parent / "models" / "embedded"


def refusal(error: type[FastInferError], *arguments: Any, **options: Any) -> str:
    """The message of the error, which has a hint."""
    with pytest.raises(error) as caught:
        fastinfer.plan(*arguments, **options)
    assert caught.value.hint
    return str(caught.value)


def chat(model: Path, **options: Any) -> fastinfer.Plan:
    return fastinfer.plan("embedded", kind="chat", model=model, **options)


@pytest.fixture(scope="module")
def whole(babbler: Path) -> fastinfer.Plan:
    """The small chat model in one file, without a projector."""
    return chat(babbler)


def test_a_preset_for_the_cpu_is_planned_for_it(whole: fastinfer.Plan, babbler: Path) -> None:
    assert (whole.model, whole.source, whole.device.name) == (str(babbler), "path", "CPU")
    assert whole.fits
    assert (whole.obstacle, whole.cards) == ("", ())


def test_parts_of_a_split_model_are_planned_as_the_whole(tmp_path: Path, babbler: Path, whole: fastinfer.Plan) -> None:
    read, data = gguf.GGUFReader(babbler), gguf.GGUFWriter(tmp_path / "parts.gguf", "llama", split_max_tensors=8)
    for field in read.fields.values():
        if not field.name.startswith(("GGUF.", "general.architecture")):
            kind = field.types[0]
            inner = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            data.add_key_value(field.name, field.contents(), kind, inner)
    for tensor in read.tensors:
        data.add_tensor(tensor.name, tensor.data)
    data.write_header_to_file()
    data.write_kv_data_to_file()
    data.write_tensors_to_file()
    data.close()
    parts = sorted(tmp_path.glob("parts-*-of-00003.gguf"))
    assert len(parts) == 3
    made = chat(parts[1])
    assert made.model == str(parts[0])
    assert made.need == whole.need


def test_a_projector_beside_a_chat_model_takes_its_room(tmp_path: Path, babbler: Path, whole: fastinfer.Plan) -> None:
    shutil.copy(babbler, tmp_path / "m.gguf")
    shutil.copy(EMBEDDED / "embedded-mmproj.gguf", tmp_path / "mmproj.gguf")
    (encoder,) = set(chat(tmp_path / "m.gguf").parts) - set(whole.parts)
    assert encoder.name == "vision encoder"
    assert encoder.size > (EMBEDDED / "embedded-mmproj.gguf").stat().st_size * 0.9


def test_classification_needs_a_projector(babbler: Path) -> None:
    said = refusal(ModelLoadError, "embedded", kind="classify", model=babbler)
    assert f"{babbler} has no vision projector" in said


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "absent.gguf" in refusal(ModelNotFoundError, "embedded", kind="chat", model=tmp_path / "absent.gguf")
    assert "org/absent" in refusal(ModelNotFoundError, "balanced", kind="chat", model="org/absent:Q4_K_M")
    assert "org/absent" in refusal(ModelNotFoundError, "prod", kind="classify", model="org/absent")


@pytest.mark.parametrize(
    ("keep", "words"),
    [(0, "it is empty"), (3, "begins with b'GGU'"), (200, "ends at byte 200"), (-1, "incomplete: tensor")],
)
def test_a_file_that_was_cut_short_is_refused_whichever_part_is_missing(
    tmp_path: Path, babbler: Path, keep: int, words: str
) -> None:
    model = tmp_path / "cut.gguf"
    model.write_bytes(babbler.read_bytes()[:keep])
    assert words in refusal(ModelLoadError, "embedded", kind="chat", model=model)


def test_a_header_alone_is_no_model(tmp_path: Path) -> None:
    model = write_header(tmp_path / "header.gguf")
    with model.open("r+b") as file:
        file.truncate(len(file.read().rstrip(b"\0")) + 64)
    assert "incomplete: tensor" in refusal(ModelLoadError, "embedded", kind="chat", model=model)


def test_something_else_than_a_model_is_named_as_what_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.gguf"
    page.write_text("<!doctype html><title>404</title>")
    assert "a web page" in refusal(ModelLoadError, "embedded", kind="chat", model=page)
    model = write_header(tmp_path / "m.gguf")
    assert "GGUF" in refusal(ModelLoadError, "prod", kind="classify", model=model)


def test_an_architecture_that_llama_cpp_does_not_know_is_named(tmp_path: Path) -> None:
    model = write_header(tmp_path / "new.gguf", "frobnicate")
    said = refusal(ModelLoadError, "embedded", kind="chat", model=model)
    assert "llama.cpp cannot load new.gguf: unknown model architecture: 'frobnicate'." in said


def test_a_model_on_which_llama_cpp_ends_the_process_is_an_error(tmp_path: Path) -> None:
    model = write_header(tmp_path / "mixed.gguf", changes={"expert_count": 4, "expert_used_count": 8})
    said = refusal(ModelLoadError, "embedded", kind="chat", model=model)
    assert "llama.cpp ended while it tried what mixed.gguf takes: llama-model.cpp:" in said
    assert "n_expert_used" in said


def test_names_and_values_that_do_not_exist_are_refused_before_a_model_is_looked_for(tmp_path: Path) -> None:
    absent: dict[str, Any] = {"model": tmp_path / "absent.gguf"}
    assert "balancd" in refusal(PresetError, "balancd", **absent)
    assert "kind" in refusal(PresetError, "prod", **absent)  # both kinds have it
    preset = fastinfer.preset("balanced", kind="chat")
    assert "of kind 'chat', not 'classify'" in refusal(PresetError, preset, kind="classify", **absent)
    for changed in ({"n_ctz": 1}, {"n_ctx": 0}):
        with pytest.raises(PresetError, match="n_ctx"):
            fastinfer.plan(preset, **absent, **changed)
    for gpu in ("RTX-9090", "A100", "0GiB", ""):
        assert repr(gpu) in refusal(PresetError, preset, gpu=gpu, **absent)


LOOK = """
import json, sys
import fastinfer
made = {}
for name, kind in (("prod", "classify"), ("balanced", "chat")):
    plan = fastinfer.plan(name, kind=kind, gpu="A100-40GB")
    maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
    heavy = {"torch", "lmdeploy", "transformers", "llama_cpp"} & set(sys.modules)
    made[name] = {"fits": plan.fits, "heavy": sorted(heavy), "maps": [n for n in ("libcuda", ".gguf") if n in maps]}
status = open("/proc/self/status").read()
made["most"] = int(status.partition("VmHWM:")[2].split()[0])  # getrusage counts what the parent had
print(json.dumps(made))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what the process maps from /proc")
def test_nothing_is_loaded_into_the_process(run_python: Callable[..., Any]) -> None:
    done = run_python(LOOK)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["prod"] == {"fits": True, "heavy": [], "maps": []}
    # llama.cpp's library is there for the layout of contexts, and no model in it.
    assert told["balanced"]["fits"]
    assert told["balanced"]["heavy"] == ["llama_cpp"]
    assert ".gguf" not in told["balanced"]["maps"]
    assert told["most"] < 1024 * 1024  # KiB, of a model of 24 GB
