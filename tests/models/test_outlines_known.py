from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import ModelNotFoundError
from fastinfer.models import check_gguf, describe_checkpoint, outline_checkpoint, outline_gguf
from fastinfer.models.quantisation_mixes import tensor_type
from tiny_checkpoints import CONFIGS, PROCESSORS, write_checkpoint

SEED_OSS = "unsloth/Seed-OSS-36B-Instruct-GGUF"
INTERNVL = "OpenGVLab/InternVL3-{}-hf"
LOADING = """
import sys
from fastinfer.engines.llama.binding import llama

asked = llama.llama_model_default_params()
asked.no_alloc, asked.load_mode = True, 0
model = llama.llama_model_load_from_file(sys.argv[1].encode(), asked)
assert model
context = llama.llama_context_default_params()
context.n_ctx, context.n_batch, context.n_ubatch = 4096, 512, 512
assert llama.llama_init_from_model(model, context)
vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
print(llama.llama_model_n_params(model), llama.llama_model_n_ctx_train(model), vocabulary)
"""


@pytest.fixture
def offline(cache: Path, go_offline: Callable[[], None]) -> Path:
    """Neither a network nor anything in the cache."""
    go_offline()
    return cache


#: Gigabytes of the weights by llama.cpp's formats for each label.
LENGTHS = {
    "Q2_K": 13.598,
    "Q3_K_M": 17.615,
    "IQ4_XS": 19.492,
    "Q4_K_S": 20.689,
    "Q4_K_M": 21.756,
    "Q5_K_S": 24.964,
    "Q5_K_M": 25.588,
    "Q6_K": 29.660,
    "Q8_0": 38.415,
    "F16": 72.305,
    "BF16": 72.305,
}


@pytest.mark.parametrize("label", LENGTHS)
def test_the_chat_presets_model_is_known_in_the_common_quantisations(offline: Path, label: str) -> None:
    with outline_gguf(f"{SEED_OSS}:{label}") as outline:
        (header,) = outline.headers
        assert (outline.name, outline.source, outline.projector) == (f"{SEED_OSS}:{label}", "known shape", None)
        assert header == check_gguf(outline.model)
        assert header.size / 1e9 == pytest.approx(LENGTHS[label], abs=0.001)
        assert header.architecture == "seed_oss"
        assert sum(math.prod(tensor.shape) for tensor in header.tensors) == 36_151_104_512
        assert getattr(outline.model.stat(), "st_blocks", 0) * 512 < 1 << 20
        assert outline.note == (
            "The hub cannot be reached: computed from config.json of ByteDance-Seed/Seed-OSS-36B-Instruct, "
            f"quantised as llama.cpp does for {label}."
        )
    assert not outline.model.exists()


@pytest.mark.parametrize(
    ("name", "mix"),
    [
        (f"{SEED_OSS}:Q5_K_XL", "Q5_K_M"),
        (f"{SEED_OSS}:UD-Q5_K_XL", "Q5_K_M"),
        (f"{SEED_OSS}:ud-q4_k_xl@main", "Q4_K_M"),
        (f"{SEED_OSS}:UD-Q3_K_XL", "Q3_K_M"),
    ],
)
def test_a_dynamic_quantisation_is_taken_as_the_mix_of_its_number_and_it_is_said(
    offline: Path, name: str, mix: str
) -> None:
    with outline_gguf(name) as outline:
        assert outline.name == name.removesuffix("@main")
        assert outline.model.name == f"Seed-OSS-36B-Instruct-{mix}.gguf"
        assert outline.headers[0].size / 1e9 == pytest.approx(LENGTHS[mix], abs=0.001)
        label = outline.name.partition(":")[2].upper()
        assert f"for {mix}, from which the published {label} differs by a few per cent." in outline.note


def test_without_a_quantisation_it_is_the_preferred_one(offline: Path) -> None:
    with outline_gguf(SEED_OSS) as outline:
        assert outline.name == f"{SEED_OSS}:Q4_K_M"


@pytest.mark.parametrize(
    "name", [f"{SEED_OSS}:UD-Q8_K_XL", f"{SEED_OSS}:IQ1_S", f"{SEED_OSS}:Q4_K_M@v2", "org/other:Q4_K_M"]
)
def test_what_is_not_known_is_the_hub_s_error(offline: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="the model is not in the cache"), outline_gguf(name):
        pass


def test_a_refusal_of_the_hub_is_not_overruled(hub: Any) -> None:
    hub.add_files(SEED_OSS, {"README.md": b""}).fails_with = (401, "GatedRepo")
    with pytest.raises(ModelNotFoundError, match="gated"), outline_gguf(f"{SEED_OSS}:Q4_K_M"):
        pass
    with pytest.raises(ModelNotFoundError, match="no such repository"), outline_checkpoint(INTERNVL.format("8B")):
        pass


def test_what_the_hub_has_goes_before_what_is_known(hub: Any, cut_network: Callable[[], None], model: bytes) -> None:
    hub.add_files(SEED_OSS, {"Seed-OSS-36B-Instruct-Q4_K_M.gguf": model})
    with outline_gguf(SEED_OSS) as outline:
        assert (outline.source, outline.headers[0].size) == ("hub", len(model))
    cut_network()
    with outline_gguf(SEED_OSS) as outline:
        assert outline.source == "known shape"


def test_llama_cpp_loads_the_stand_in_without_its_weights(offline: Path, run_python: Callable[..., Any]) -> None:
    with outline_gguf(f"{SEED_OSS}:Q5_K_XL") as outline:
        done = run_python(LOADING, str(outline.model))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["36151104512", "524288", "155136"]


def test_which_tensors_of_a_mix_are_finer() -> None:
    def finer(mix: str, kind: str, base: str) -> list[int]:
        return [layer for layer in range(32) if tensor_type(mix, kind, layer, 32) != base]

    eighths_and_thirds = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert finer("Q4_K_M", "attn_v", "Q4_K") == finer("Q5_K_M", "ffn_down", "Q5_K") == eighths_and_thirds
    assert finer("Q4_K_S", "ffn_down", "Q4_K") == finer("Q4_K_S", "attn_v", "Q4_K") == [0, 1, 2, 3]
    assert finer("Q3_K_M", "ffn_down", "Q4_K") == finer("Q3_K_M", "attn_v", "Q4_K") == [0, 1]
    for mix in ("Q6_K", "Q5_K_S", "Q4_K_M"):
        assert finer(mix, "attn_output", tensor_type(mix, "ffn_up", 0, 32)) == []
        assert tensor_type(mix, "output", 0, 32) == "Q6_K"


@pytest.mark.parametrize(("size", "weights"), [("8B", 15152.69), ("1B", 1789.46)])
def test_the_classification_presets_model_is_known(offline: Path, size: str, weights: float) -> None:
    name = INTERNVL.format(size)
    with outline_checkpoint(name) as outline:
        assert (outline.name, outline.source) == (name, "known shape")
        assert outline.note == f"The hub cannot be reached: computed from config.json of {name}."
        assert outline.info.weight_bytes / 2**20 == pytest.approx(weights, abs=0.005)
        assert outline.info.head is not None
        assert getattr(outline.info.head.file.stat(), "st_blocks", 0) * 512 < 1 << 20
    assert not outline.info.folder.exists()


def test_it_is_known_as_its_configuration_describes_it(offline: Path, tmp_path: Path) -> None:
    published = describe_checkpoint(
        write_checkpoint(tmp_path / "model", CONFIGS["internvl"], preprocessor_config=PROCESSORS["internvl"])
    )
    with outline_checkpoint(INTERNVL.format("8B")) as outline:
        for field in ("architecture", "text", "vision", "dtype", "tiles", "image_tokens", "processor"):
            assert getattr(outline.info, field) == getattr(published, field), field
        assert dataclasses.asdict(outline.info)["quantisation"] is None


def published_name(name: str) -> str:
    """The name in a published checkpoint of a tensor of Transformers' model in memory."""
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace(".", ".model.", 1)
    return f"language_model.{name}" if name.startswith("lm_head.") else name


@pytest.mark.slow
@pytest.mark.parametrize("size", ["8B", "1B"])
def test_its_tensors_are_those_of_transformers_class(offline: Path, size: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from fastinfer.models.safetensors import weights_of

    with outline_checkpoint(INTERNVL.format(size)) as outline:
        known = {name: place.shape for name, place in weights_of(outline.info.folder).items()}
        config = transformers.InternVLConfig.from_pretrained(outline.info.folder)
    with torch.device("meta"):
        state = transformers.InternVLForConditionalGeneration(config).state_dict()
    shapes = {published_name(name): tuple(tensor.shape) for name, tensor in state.items()}
    assert known == shapes
    assert outline.info.weight_bytes == sum(2 * math.prod(shape) for shape in shapes.values())
