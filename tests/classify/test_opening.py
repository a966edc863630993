"""The front door: which preset, which model, and a typed error where one of them will not do."""

from __future__ import annotations

import logging
import shutil

import pytest

import fastinfer
from fastinfer.engines.cores import usable_cores
from fastinfer.errors import (
    EngineUnavailableError,
    FastInferError,
    LabelError,
    ModelLoadError,
    ModelNotFoundError,
    PresetError,
)
from fastinfer.models import resolve_gguf

pytestmark = pytest.mark.usefixtures("bare_account")


@pytest.fixture
def copied(tmp_path):
    """The embedded model's two files in a folder of the test's own."""
    files = resolve_gguf("embedded")
    folder = tmp_path / "model"
    folder.mkdir()
    model, projector = folder / "small.gguf", folder / "mmproj-small.gguf"
    shutil.copy(files.model, model)
    shutil.copy(files.projector, projector)
    return model, projector


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(PresetError, match="There is no preset 'embeded'") as error:
        fastinfer.classifier("embeded")
    assert "embedded" in error.value.hint


def test_a_chat_preset_does_not_classify():
    with pytest.raises(PresetError):
        fastinfer.classifier("balanced")
    with pytest.raises(PresetError, match="of kind 'chat'"):
        fastinfer.classifier(fastinfer.preset("balanced", kind="chat"))


def test_changes_go_into_the_preset(fresh):
    classifier = fresh(n_ctx=1024, n_batch=512, n_ubatch=256, workers=1)
    assert classifier.preset.parameters.n_ctx == 1024
    assert "1 worker" in classifier.provenance.kernel_path


@pytest.mark.parametrize(("asked", "used"), [(3, 3), (0, usable_cores())])
def test_a_classifier_says_how_many_images_it_decodes_side_by_side(fresh, asked, used):
    assert fresh(decode_workers=asked, workers=1).decode_workers == used


def test_a_preset_object_will_do(fresh, pictures):
    preset = fastinfer.preset("embedded", kind="classify").replace(workers=1, vision_max_batch_size=2)
    classifier = fresh(preset)
    assert classifier.preset == preset
    assert max(r.timings.batch_size for r in classifier.classify_many(pictures * 3)) <= 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_ctxx": 64}, "n_ctx"),
        ({"vision_batch_size": 4}, "vision_max_batch_size"),
        ({"n_ctx": "64"}, "n_ctx"),
        ({"n_ctx": 0}, "n_ctx"),
        ({"n_batch": 100_000}, "n_batch"),
        ({"type_k": "q3"}, "type_k"),
        ({"prompt": "{label}"}, "prompt"),
    ],
    ids=str,
)
def test_a_wrong_change_is_a_preset_error_that_names_the_field(changes, words):
    with pytest.raises(PresetError) as error:
        fastinfer.classifier(**changes)
    assert words in str(error.value)


def test_strict_refuses_nothing_that_needs_no_adjustment(fresh, pictures):
    classifier = fresh(strict=True, workers=1)
    assert classifier.provenance.adjustments == ()
    assert classifier.classify(pictures[0]).ok


def test_a_model_by_its_path_gives_the_same_answers(fresh, copied, shared, pictures, labels, same):
    for name in (copied[0], str(copied[0]), copied[0].parent):
        classifier = fresh(model=name, labels=labels, workers=1)
        same(classifier.classify(pictures[0]), shared.classify(pictures[0]))
        assert "small" in classifier.provenance.model or "model" in classifier.provenance.model


def test_the_environment_names_the_model_and_the_argument_goes_before_it(monkeypatch, copied):
    monkeypatch.setenv("FASTINFER_CLASSIFY_MODEL", str(copied[0]))
    with fastinfer.classifier(workers=1) as classifier:
        assert "small" in classifier.provenance.model
    with fastinfer.classifier(model="embedded", workers=1) as classifier:
        assert classifier.provenance.model == "embedded"
    monkeypatch.setenv("FASTINFER_CLASSIFY_MODEL", "/there/is/none.gguf")
    with pytest.raises(ModelNotFoundError, match=r"none\.gguf"):
        fastinfer.classifier()


def test_a_missing_model_is_named():
    with pytest.raises(ModelNotFoundError, match=r"missing\.gguf") as error:
        fastinfer.classifier(model="/there/is/a/missing.gguf")
    assert error.value.hint


def test_a_text_model_without_a_projector_is_refused(copied):
    copied[1].unlink()
    with pytest.raises(ModelLoadError, match="no vision projector") as error:
        fastinfer.classifier(model=copied[0])
    assert "mmproj" in error.value.hint


@pytest.mark.parametrize("which", [0, 1], ids=["model", "projector"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_a_load_error(copied, which, share):
    data = copied[which].read_bytes()
    copied[which].write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FastInferError) as error:
        fastinfer.classifier(model=copied[0])
    assert isinstance(error.value, (ModelLoadError, ModelNotFoundError))


def test_a_model_in_place_of_the_projector_is_a_load_error(copied):
    shutil.copy(copied[0], copied[1])
    with pytest.raises(ModelLoadError):
        fastinfer.classifier(model=copied[0])


def test_a_projector_whose_header_lacks_a_size_is_a_load_error(copied):
    data = copied[1].read_bytes()
    copied[1].write_bytes(data.replace(b"clip.vision.patch_size", b"clip.vision.patch_siz3", 1))
    with pytest.raises(ModelLoadError, match="does not describe a vision projector"):
        fastinfer.classifier(model=copied[0])


def test_layers_on_a_gpu_that_is_not_there_are_refused_and_not_ignored():
    from fastinfer.engines.llama.binding import llama

    if llama.llama_supports_gpu_offload():
        pytest.skip("this llama-cpp-python was built for a GPU")
    with pytest.raises(EngineUnavailableError, match="built for the CPU alone") as error:
        fastinfer.classifier(n_gpu_layers=-1)
    assert "n_gpu_layers=0" in error.value.hint


def test_labels_are_checked_before_the_engine_is_asked_for():
    with pytest.raises(LabelError):
        fastinfer.classifier("prod", labels=[])


def test_the_prompt_takes_the_labels_where_it_says_so(fresh, pictures):
    classifier = fresh(prompt="Which of {labels}?", workers=1)
    few = classifier.classify(pictures[0], labels=["red circle", "blue square"])
    more = classifier.classify(pictures[0], labels=["red circle", "blue square", "green line", "black dot"])
    assert more.prompt_tokens > few.prompt_tokens


def test_opening_adds_no_lines_to_the_programs_log(fresh, pictures, caplog):
    with caplog.at_level(logging.WARNING):
        fresh(workers=1).classify(pictures[0])
    assert caplog.records == []


def test_llama_cpps_own_words_are_there_for_who_asks(fresh, caplog):
    with caplog.at_level(logging.DEBUG, logger="fastinfer.llama"):
        fresh(workers=1)
    assert any("llama" in record.getMessage() for record in caplog.records)


def test_loading_and_classifying_print_nothing(run_python):
    code = """
import fastinfer
from PIL import Image
with fastinfer.classifier(labels=["red", "blue"]) as classifier:
    assert classifier.classify(Image.new("RGB", (64, 64), "red")).ok
    list(classifier.classify_many([Image.new("RGB", (64, 64))] * 10))
with fastinfer.classifier() as classifier:
    assert classifier.classify(Image.new("RGB", (64, 64), "red")).ok
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
