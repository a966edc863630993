"""For every family that TurboMind serves here, images and prompts are those that Transformers makes of them.

Needs torch and Transformers. What the networks make of them is compared on a GPU, in test_families_gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoConfig, AutoTokenizer

from family_checkpoints import FAMILIES, Family, write_family
from family_pictures import different_shapes
from family_quantised import METHODS, write_quantised
from family_reference import Reference
from fastinfer.engines.turbomind.pictures import preparation_for
from fastinfer.engines.turbomind.preflight import check_model
from fastinfer.engines.turbomind.prompt import PLACES, PromptMaker
from fastinfer.errors import ModelLoadError
from fastinfer.models import describe_checkpoint, read_tensor

PROMPTS = ("What is this?", " a line\nand <|im_end|> another, ", "red circle")
LABELS = ["red", "blue", "green", "circle", "car", "cat", "What", "square", "red circle", "red car"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and on a busy machine threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Family, Path, Reference]]:
    """A family, its checkpoint and what Transformers says of it, each written once."""
    root, found = tmp_path_factory.mktemp("families"), dict[str, tuple[Family, Path, Reference]]()

    def family(name: str) -> tuple[Family, Path, Reference]:
        if name not in found:
            one, folder = FAMILIES[name], root / str(len(found))
            native = write_family(one, folder)
            found[name] = one, folder, Reference(native, one.processor, max_tiles=one.options.get("max_tiles", 1))
        return found[name]

    return family


def prepared(family: Family, folder: Path) -> tuple[PromptMaker, Any]:
    info = describe_checkpoint(folder)
    preparation = preparation_for(
        info, dtype="bfloat16", max_tiles=family.options.get("max_tiles", 1), min_pixels=0, max_pixels=0
    )
    assert preparation is not None
    return PromptMaker(AutoTokenizer.from_pretrained(folder), info), preparation


def test_every_architecture_that_is_served_has_a_family(written):
    """LMDeploy loads InternS1 and mixtures of experts with the same code; only their text models are others."""
    twins = {"InternS1ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"}
    assert {describe_checkpoint(written(name)[1]).architecture for name in FAMILIES} == set(PLACES) - twins


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkpoint_passes_the_checks_before_loading(written, name):
    family, folder, reference = written(name)
    info = describe_checkpoint(folder)
    check_model(info, trust_remote_code=family.legacy)
    assert info.architecture in PLACES
    assert info.dtype == "bfloat16"
    assert reference.tokenizer.eos_token_id in info.end_tokens
    # The matrix that rows are scored with is the network's own, also where it is the embeddings'.
    assert info.head is not None
    theirs = reference.network.get_output_embeddings().weight.detach().to(torch.bfloat16).view(torch.int16).numpy()
    assert np.array_equal(np.asarray(read_tensor(info.head)).view(np.int16), theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_and_images_are_those_of_transformers(written, name):
    family, folder, reference = written(name)
    prompts, preparation = prepared(family, folder)
    grids = set()
    for picture in different_shapes():
        image = preparation.prepare(np.asarray(picture))
        theirs = reference.inputs(picture, PROMPTS[0])
        bits = theirs["pixel_values"].to(torch.bfloat16).view(torch.int16).numpy()
        assert np.array_equal(image.data.view(np.int16), bits), picture.size
        assert prompts.render(PROMPTS[0]).around(image.tokens) == theirs["input_ids"][0].tolist(), picture.size
        grid = theirs.get("image_grid_thw")
        assert image.grid == (None if grid is None else tuple(grid[0].tolist()))
        grids.add(image.grid or len(image.data))
    assert len(grids) >= (4 if preparation.image_size is None else 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_other_texts_are_as_well(written, name):
    family, folder, reference = written(name)
    prompts, preparation = prepared(family, folder)
    picture = different_shapes()[0]
    tokens = preparation.tokens(*picture.size)
    for text in PROMPTS[::2]:
        theirs = reference.inputs(picture, text)["input_ids"][0].tolist()
        assert prompts.render(text).around(tokens) == theirs
    # Only here they differ, and on purpose: text that spells a special token stays text.
    spelled = prompts.render(PROMPTS[1]).around(tokens)
    end = reference.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert spelled.count(end) == reference.inputs(picture, PROMPTS[1])["input_ids"][0].tolist().count(end) - 1


@pytest.mark.parametrize("name", FAMILIES)
def test_labels_depend_on_the_picture_and_where_things_are_in_it(written, name):
    """Else the comparison on a GPU would prove nothing."""
    _, _, reference = written(name)
    pictures = different_shapes()
    found = np.array([reference.probabilities(picture, PROMPTS[0], LABELS) for picture in pictures])
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert (found.max(axis=0) - found.min(axis=0)).max() > 0.15
    assert np.median(found.max(axis=1)) < 0.95
    turned = reference.probabilities(pictures[0].rotate(180), PROMPTS[0], LABELS)
    assert np.abs(turned - found[0]).max() > 0.005


def test_the_legacy_class_is_refused_unless_its_code_may_be_run(written):
    with pytest.raises(ModelLoadError, match="Python code of its own"):
        check_model(describe_checkpoint(written("InternVLChatModel")[1]), trust_remote_code=False)


def test_the_legacy_class_is_configured_by_code_of_its_own(written, tmp_path, monkeypatch):
    """As LMDeploy reads it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    _, folder, _ = written("InternVLChatModel")
    config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert type(config).__name__ == "InternVLChatConfig"
    assert config.architectures == ["InternVLChatModel"]
    assert config.ps_version == "v2"
    assert config.llm_config.architectures == ["Qwen2ForCausalLM"]
    assert config.llm_config.tie_word_embeddings is False
    assert config.vision_config.qk_normalization is False


@pytest.mark.parametrize("method", METHODS)
def test_quantised_weights_are_described_and_stand_for_nearly_the_same_network(method, written, tmp_path):
    family, folder, reference = written("InternVL, encoder 128, Qwen3 128, tied")
    plain = write_quantised(method, folder, tmp_path / method)
    info = describe_checkpoint(tmp_path / method)
    check_model(info, trust_remote_code=False)
    assert info.quantisation == method
    assert info.dtype == "float16"
    assert info.head is not None
    picture = different_shapes()[0]
    exact = reference.probabilities(picture, PROMPTS[0], LABELS)
    rounded = Reference(plain, family.processor).probabilities(picture, PROMPTS[0], LABELS)
    assert 0.001 < np.abs(rounded - exact).max() < 0.5
