from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

import fastinfer
import tiny_chat
from fastinfer.errors import PresetError
from fastinfer.measuring import Workload
from fastinfer.preset_library import preset, presets
from fastinfer.verifying.workloads import image_files, label_set, prompt_tokens, prompts, standard_workload


def test_images_are_files_of_the_size_and_form_named() -> None:
    name = "generated JPEG files of 448 px"
    files = image_files(Workload(name, 3))
    assert len(set(files)) == 3
    assert files == image_files(Workload(name, 3))
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (448, 448), "RGB")


def test_generated_photographs_weigh_what_photographs_do() -> None:
    for file in image_files(Workload("generated JPEG files of 448 px", 3)):
        assert 25_000 < len(file) < 60_000


def test_labels_are_as_many_as_the_work_has() -> None:
    assert label_set(Workload("x", 1)) is None
    assert len(set(label_set(Workload("x", 1, labels=100)) or ())) == 100
    assert label_set(Workload("x", 1, labels=10)) == (label_set(Workload("x", 1, labels=100)) or [])[:10]


def test_prompts_have_the_tokens_of_their_name(tmp_path: Path) -> None:
    file = tiny_chat.write_babbler(tmp_path / "babbler.gguf", "{{ messages[0].content }}")
    work = Workload("prompts of 96 tokens, random words", 4, max_tokens=4)
    with fastinfer.llm("embedded", model=file, n_ctx=1024, n_batch=1024, n_threads=1) as llm:
        made = prompts(llm, work)
        assert len(set(made)) == 4
        for prompt in made:
            assert 80 <= llm.count_tokens(prompt) <= 96
        assert made == prompts(llm, work)


def test_work_that_is_not_made_here_is_refused() -> None:
    for make in (image_files, prompt_tokens):
        with pytest.raises(PresetError, match="'own sample' cannot be done again") as caught:
            make(Workload("own sample", 2))
        assert "take_receipt" in str(caught.value)


@pytest.mark.parametrize("each", presets(), ids=repr)
def test_every_built_in_preset_has_work_that_can_be_made(each: fastinfer.Preset) -> None:
    work = standard_workload(each)
    if each.kind == "chat":
        assert prompt_tokens(work) in (128, 512)
        assert work.items == 4 * each.parallel
    else:
        assert image_files(Workload(work.name, 1))
        assert label_set(work)
    for receipt in each.receipts:
        if each.kind == "chat":
            assert prompt_tokens(receipt.workload)
        else:
            assert image_files(Workload(receipt.workload.name, 1))


def test_a_chat_preset_on_a_gpu_gets_the_long_prompts() -> None:
    assert standard_workload(preset("low-latency")).name == "prompts of 512 tokens, random words"
    assert standard_workload(preset("low-latency")).max_tokens == 128
