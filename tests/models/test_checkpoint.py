from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import ModelLoadError
from fastinfer.models import TextPart, VisionPart, describe_checkpoint
from tiny_checkpoints import CONFIGS, PROCESSORS, write_checkpoint

QWEN2_VL_2B = TextPart(None, 28, 1536, 12, 2, 128, 151936, 32768)
QWEN2_5_VL_7B = TextPart(None, 28, 3584, 28, 4, 128, 152064, 128000)
QWEN2_VISION = VisionPart(32, 1280, 16, 80, 14, None, 2)

PARTS: dict[str, tuple[TextPart, VisionPart]] = {
    "internvl": (
        TextPart("Qwen2ForCausalLM", 28, 3584, 28, 4, 128, 151674, 32768),
        VisionPart(24, 1024, 16, 64, 14, (448, 448), 2),
    ),
    "internvl_chat": (
        TextPart("InternLM2ForCausalLM", 24, 2048, 16, 8, 128, 92553, 32768),
        VisionPart(24, 1024, 16, 64, 14, (448, 448), 2),
    ),
    "qwen2_vl": (QWEN2_VL_2B, QWEN2_VISION),
    "qwen2_vl_nested": (QWEN2_VL_2B, QWEN2_VISION),
    "qwen2_5_vl": (QWEN2_5_VL_7B, QWEN2_VISION),
    "qwen2_5_vl_nested": (QWEN2_5_VL_7B, QWEN2_VISION),
    "qwen2_5_vl_short": (dataclasses.replace(QWEN2_5_VL_7B, max_positions=32768), QWEN2_VISION),
    "qwen3_5": (
        # 16 heads keep a matrix of 128 x 128 each, and the convolution 4 of their queries, keys and values.
        TextPart(None, 24, 1024, 8, 2, 256, 248320, 262144, 18, 18 * (16 * 128 * 128 + 4 * 3 * 16 * 128)),
        VisionPart(12, 768, 12, 64, 16, None, 2),
    ),
}


def small_internvl(**changes: Any) -> dict[str, Any]:
    """InternVL with 40 tokens and hidden states of 16."""
    config = copy.deepcopy(CONFIGS["internvl"])
    small = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40}
    config["text_config"] |= small
    return config | changes


def changed(config: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a place such as ``"text_config.hidden_size"``; without it where that is ``...``."""
    config = copy.deepcopy(config)
    *within, name = place.split(".")
    part = config
    for step in within:
        part = part[step]
    part[name] = value
    if value is ...:
        del part[name]
    return config


@pytest.mark.parametrize("name", CONFIGS)
def test_the_parts_of_published_models(tmp_path: Path, name: str) -> None:
    info = describe_checkpoint(write_checkpoint(tmp_path, CONFIGS[name]))
    assert (info.text, info.vision) == PARTS[name]
    assert info.architecture == CONFIGS[name]["architectures"][0]
    assert (info.folder, info.config, info.dtype) == (tmp_path, CONFIGS[name], "bfloat16")
    assert info.needs_remote_code is (name == "internvl_chat")
    assert (info.quantisation, info.weight_bytes, info.head) == (None, 8, None)
    assert info.image_tokens == (256 if name.startswith("internvl") else None)
    assert pickle.loads(pickle.dumps(info)) == info
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.tiles = 2  # type: ignore[misc]


def numbers_of(text: Any) -> tuple[int, ...]:
    """What Transformers' configuration of a language model says of it, in the order of TextPart's fields."""
    linear = (getattr(text, "layer_types", None) or []).count("linear_attention")
    state = 0
    if linear:
        keys = text.linear_num_key_heads * text.linear_key_head_dim
        values = text.linear_num_value_heads * text.linear_value_head_dim
        state = values * text.linear_key_head_dim + text.linear_conv_kernel_dim * (2 * keys + values)
    return (
        text.num_hidden_layers,
        text.hidden_size,
        text.num_attention_heads,
        text.num_key_value_heads,
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        text.vocab_size,
        text.max_position_embeddings,
        linear,
        linear * state,
    )


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "internvl_chat"])
def test_transformers_reads_the_same_numbers(tmp_path: Path, name: str) -> None:
    auto = pytest.importorskip("transformers").AutoConfig
    info = describe_checkpoint(write_checkpoint(tmp_path, CONFIGS[name]))
    theirs = auto.from_pretrained(tmp_path)
    text, vision = theirs.text_config, theirs.vision_config
    assert dataclasses.astuple(info.text)[1:] == numbers_of(text)
    assert info.vision is not None
    assert info.vision.heads == vision.num_attention_heads
    assert info.vision.layers == getattr(vision, "num_hidden_layers", None) or vision.depth
    assert info.vision.hidden == (vision.embed_dim if name.startswith("qwen2_vl") else vision.hidden_size)


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "qwen2_vl", "qwen2_5_vl", "qwen3_5", "internvl"])
def test_missing_fields_mean_what_they_mean_to_transformers(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(name)
    architecture = {
        "qwen2": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "qwen3_5": "Qwen3_5ForConditionalGeneration",
        "internvl": "InternVLForConditionalGeneration",
    }[name]
    text = getattr(theirs, "text_config", theirs)
    config = {"architectures": [architecture], "model_type": name, "text_config": {"model_type": text.model_type}}
    info = describe_checkpoint(write_checkpoint(tmp_path, config))
    assert dataclasses.astuple(info.text)[1:] == numbers_of(text)
    assert (info.vision is None) is not hasattr(theirs, "vision_config")
    if info.vision is None:
        return
    vision = theirs.vision_config
    patch = vision.patch_size
    assert info.vision == VisionPart(
        layers=getattr(vision, "depth", None) or vision.num_hidden_layers,
        hidden=getattr(vision, "embed_dim", None) or vision.hidden_size,
        heads=vision.num_attention_heads,
        head_dim=(getattr(vision, "embed_dim", None) or vision.hidden_size) // vision.num_attention_heads,
        patch=patch if isinstance(patch, int) else patch[0],
        image_size=tuple(vision.image_size) if name == "internvl" else None,
        merge=round(1 / theirs.downsample_ratio) if name == "internvl" else vision.spatial_merge_size,
    )


def test_a_model_of_text_only(tmp_path: Path) -> None:
    config = {**CONFIGS["internvl"]["text_config"], "tie_word_embeddings": True}
    info = describe_checkpoint(write_checkpoint(tmp_path, config))
    assert (info.vision, info.tiles, info.image_tokens) == (None, 1, None)
    assert info.text.architecture == "Qwen2ForCausalLM"


def test_the_processor_is_read_where_transformers_reads_it(tmp_path: Path) -> None:
    processor = PROCESSORS["internvl"]
    assert describe_checkpoint(write_checkpoint(tmp_path, small_internvl())).processor == {}
    about = {"processor_class": "InternVLProcessor", "image_seq_length": 256}
    write_checkpoint(tmp_path, small_internvl(), preprocessor_config=processor, processor_config=about)
    assert describe_checkpoint(tmp_path).processor == processor
    nested = {**about, "image_processor": {**processor, "max_patches": 3}}
    write_checkpoint(tmp_path, small_internvl(), processor_config=nested)
    info = describe_checkpoint(tmp_path)
    assert (info.processor, info.tiles) == (nested["image_processor"], 3)


@pytest.mark.parametrize(("changes", "tiles"), [({}, 12), ({"max_patches": 1}, 1), ({"max_patches": None}, 12)])
@pytest.mark.parametrize("crop", [True, False])
def test_internvl_cuts_images_whatever_crop_to_patches_says(
    tmp_path: Path, changes: dict[str, Any], tiles: int, crop: bool
) -> None:
    processor = {**PROCESSORS["internvl"], "crop_to_patches": crop, **changes}
    assert (
        describe_checkpoint(write_checkpoint(tmp_path, small_internvl(), preprocessor_config=processor)).tiles == tiles
    )


def test_the_legacy_internvl_says_in_its_configuration_how_images_are_cut(tmp_path: Path) -> None:
    config = CONFIGS["internvl_chat"]
    assert describe_checkpoint(write_checkpoint(tmp_path, config)).tiles == 12
    assert describe_checkpoint(write_checkpoint(tmp_path, changed(config, "dynamic_image_size", False))).tiles == 1
    for value in (None, ...):
        assert describe_checkpoint(write_checkpoint(tmp_path, changed(config, "force_image_size", value))).vision


def test_qwen_cuts_no_image(tmp_path: Path) -> None:
    processor = PROCESSORS["qwen2_vl"]
    info = describe_checkpoint(write_checkpoint(tmp_path, CONFIGS["qwen2_vl"], preprocessor_config=processor))
    assert (info.processor, info.tiles, info.image_tokens) == (processor, 1, None)


def test_the_tokens_of_a_tile(tmp_path: Path) -> None:
    config = small_internvl(image_seq_length=8 * 6)
    config["vision_config"] |= {"image_size": [168, 224]}
    info = describe_checkpoint(write_checkpoint(tmp_path, config))
    assert info.vision is not None
    assert (info.vision.image_size, info.image_tokens) == ((224, 168), 48)


@pytest.mark.parametrize("inside", ["", "text_config."])
@pytest.mark.parametrize(("field", "value"), [("dtype", "float16"), ("torch_dtype", "torch.float16")])
def test_the_number_format(tmp_path: Path, inside: str, field: str, value: str) -> None:
    config = changed(changed(small_internvl(), "torch_dtype", ...), "text_config.torch_dtype", ...)
    assert describe_checkpoint(write_checkpoint(tmp_path, config)).dtype == ""
    assert describe_checkpoint(write_checkpoint(tmp_path, changed(config, inside + field, value))).dtype == "float16"


@pytest.mark.parametrize("place", ["quantization_config", "text_config.quantization_config"])
def test_the_quantisation(tmp_path: Path, place: str) -> None:
    config = changed(small_internvl(), place, {"bits": 4, "quant_method": "awq"})
    assert describe_checkpoint(write_checkpoint(tmp_path, config)).quantisation == "awq"


def test_the_end_tokens(tmp_path: Path) -> None:
    config = small_internvl()
    assert describe_checkpoint(write_checkpoint(tmp_path, config)).end_tokens == (151643,)
    for value, tokens in {151645: (151645,), (7, 9): (7, 9), None: (151643,)}.items():
        generation = {"eos_token_id": list(value) if isinstance(value, tuple) else value}
        write_checkpoint(tmp_path, config, generation_config=generation)
        assert describe_checkpoint(tmp_path).end_tokens == tokens
    config = changed(changed(config, "text_config.eos_token_id", ...), "eos_token_id", [5])
    assert describe_checkpoint(write_checkpoint(tmp_path, config)).end_tokens == (5,)
    assert describe_checkpoint(write_checkpoint(tmp_path, changed(config, "eos_token_id", ...))).end_tokens == ()


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "language_model.lm_head.weight", "output.weight", "language_model.output.weight"]
)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_the_output_matrix(tmp_path: Path, name: str, dtype: str) -> None:
    tensors = {
        "model.embed_tokens.weight": ("BF16", (40, 16)),
        "model.layers.0.output.weight": ("BF16", (16, 16)),
        name: (dtype, (40, 16)),
        "mtp.lm_head.weight": ("BF16", (40, 16)),
    }
    head = describe_checkpoint(write_checkpoint(tmp_path, small_internvl(), tensors)).head
    assert head is not None
    assert (head.name, head.dtype, head.shape, head.file) == (name, dtype, (40, 16), tmp_path / "model.safetensors")


@pytest.mark.parametrize("place", ["tie_word_embeddings", "text_config.tie_word_embeddings"])
@pytest.mark.parametrize("name", ["model.language_model.embed_tokens.weight", "model.tok_embeddings.weight"])
def test_embeddings_are_the_output_matrix_where_the_model_says_so(tmp_path: Path, place: str, name: str) -> None:
    tensors = {"model.norm.weight": ("BF16", (16,)), name: ("BF16", (40, 16))}
    config = changed(small_internvl(), place, True)
    head = describe_checkpoint(write_checkpoint(tmp_path, config, tensors)).head
    assert head is not None
    assert (head.name, head.offset) == (name, (tmp_path / "model.safetensors").stat().st_size - 40 * 16 * 2)
    assert describe_checkpoint(write_checkpoint(tmp_path, small_internvl(), tensors)).head is None


def test_a_quantised_output_matrix_is_none(tmp_path: Path) -> None:
    for tensors in (
        {"lm_head.weight": ("F8_E4M3", (40, 16))},
        {"lm_head.qweight": ("I32", (16, 5)), "lm_head.scales": ("F16", (1, 40))},
    ):
        assert describe_checkpoint(write_checkpoint(tmp_path, small_internvl(), tensors)).head is None


def test_an_output_matrix_of_another_model_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, small_internvl(), {"lm_head.weight": ("BF16", (41, 16))})
    with pytest.raises(ModelLoadError, match=r"model\.safetensors: tensor 'lm_head\.weight' has the shape \(41, 16\)"):
        describe_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("internvl", "architectures", ..., "architectures is missing"),
        ("internvl", "architectures", "InternVL", 'architectures is "InternVL"; it has to be a list of names'),
        ("internvl", "architectures", [None], "architectures"),
        ("internvl", "text_config", [1], "text_config is [1]; it has to be an object"),
        ("internvl", "text_config.hidden_size", "3584", 'text_config.hidden_size is "3584"'),
        ("internvl", "text_config.hidden_size", 3584.5, "text_config.hidden_size is 3584.5"),
        ("internvl", "text_config.vocab_size", True, "text_config.vocab_size is true"),
        ("internvl", "text_config.num_hidden_layers", 0, "text_config.num_hidden_layers is 0"),
        ("internvl", "text_config.num_hidden_layers", 1 << 40, "a whole number above 0"),
        ("internvl", "text_config.num_key_value_heads", 3, "a divisor of num_attention_heads, 28"),
        ("internvl", "text_config.model_type", 7, "text_config.model_type is 7"),
        ("internvl", "text_config.tie_word_embeddings", "no", "it has to be true or false"),
        ("internvl", "text_config.eos_token_id", "</s>", 'text_config.eos_token_id is "</s>"'),
        ("internvl", "text_config.eos_token_id", [-1], "text_config.eos_token_id"),
        ("internvl", "text_config.torch_dtype", "int7", "one of bfloat16, float16, float32"),
        ("internvl", "downsample_ratio", 0, "downsample_ratio is 0"),
        ("internvl", "downsample_ratio", "0.5", "a number above 0 and at most 1"),
        ("internvl", "image_seq_length", 64, "image_seq_length is 64; it has to be 256"),
        ("internvl", "vision_config.image_size", [448], "vision_config.image_size"),
        ("internvl", "vision_config.image_size", [448, 0], "vision_config.image_size is 0"),
        ("internvl", "vision_config.image_size", [450, 450], "a multiple of 28"),
        ("internvl", "vision_config.patch_size", [14, 16], "a square"),
        ("internvl", "vision_config.num_attention_heads", 15, "vision_config.hidden_size is 1024"),
        ("internvl", "quantization_config", {"bits": 4}, "quantization_config.quant_method is missing"),
        ("internvl_chat", "llm_config.num_hidden_layers", ..., "llm_config.num_hidden_layers is missing"),
        ("internvl_chat", "vision_config", ..., "vision_config.patch_size is missing"),
        ("internvl_chat", "downsample_ratio", ..., "downsample_ratio is missing"),
        ("internvl_chat", "force_image_size", 224, "force_image_size is 224"),
        ("internvl_chat", "max_dynamic_patch", ..., "max_dynamic_patch is missing"),
        ("qwen2_vl", "vision_config.embed_dim", 1281, "vision_config.embed_dim is 1281"),
        ("qwen2_5_vl", "vision_config.depth", [32], "vision_config.depth is [32]"),
        ("qwen3_5", "text_config.layer_types", ["full_attention"], "it has to be a list of 24 names"),
        ("qwen3_5", "text_config.full_attention_interval", 0, "text_config.full_attention_interval is 0"),
        ("qwen3_5", "vision_config.spatial_merge_size", -2, "vision_config.spatial_merge_size is -2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, place: str, value: Any, words: str) -> None:
    write_checkpoint(tmp_path, changed(CONFIGS[name], place, value))
    with pytest.raises(ModelLoadError) as caught:
        describe_checkpoint(tmp_path)
    assert words in caught.value.message
    assert caught.value.message.startswith(str(tmp_path / "config.json"))


def test_a_model_that_sees_in_an_unknown_way_is_refused(tmp_path: Path) -> None:
    config = {**CONFIGS["internvl"], "architectures": ["LlavaForConditionalGeneration"]}
    with pytest.raises(ModelLoadError, match=r"LlavaForConditionalGeneration.*Classes that are: InternVL"):
        describe_checkpoint(write_checkpoint(tmp_path, config))


@pytest.mark.parametrize("name", ["config", "generation_config", "preprocessor_config", "processor_config"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff{}", b"[" * 100_000, b"9" * 10_000])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    write_checkpoint(tmp_path, small_internvl(), generation_config={}, preprocessor_config={})
    (tmp_path / f"{name}.json").write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        describe_checkpoint(tmp_path)
    assert caught.value.message.startswith(str(tmp_path / f"{name}.json"))
    assert caught.value.hint


def test_a_file_too_long_to_be_a_configuration_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(ModelLoadError, match=r"config\.json: over 67108864 bytes long"):
        describe_checkpoint(tmp_path)


def test_without_config_json_it_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"has no config\.json"):
        describe_checkpoint(tmp_path)


def test_the_description_loads_no_heavy_library(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, small_internvl(), {"lm_head.weight": ("BF16", (40, 16))})
    code = (
        "import pathlib, sys; from fastinfer.models import describe_checkpoint;"
        f"describe_checkpoint(pathlib.Path({json.dumps(str(tmp_path))}));"
        "assert not {'torch', 'transformers', 'safetensors', 'numpy', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
