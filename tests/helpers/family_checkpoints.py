"""Checkpoints of every family that TurboMind serves here: tiny, with random weights, in Hugging Face's form.

The weights are drawn so that labels have clearly different probabilities for different pictures, and that positions
matter: attention is neither even nor on one place only. They are bfloat16 numbers, so that a network in float32 with
the same weights says what is right. Needs torch, transformers and safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
)

from family_words import VOCABULARY, token, write_json, write_words

__all__ = ["FAMILIES", "Family", "write_family"]

_IMAGENET: Final = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_HALF: Final = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_SIDE: Final = 112  # of an InternVL tile, in pixels: 64 patches, 16 tokens
_TILE_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Family:
    """A family in one shape.

    Attributes:
        build: the network, with weights that are drawn afterwards.
        processor: preprocessor_config.json.
        image: what its chat template writes for an image.
        system: the system message that its chat template puts first; empty for none.
        legacy: whether it is saved as the class InternVLChatModel, whose configuration comes as code.
        options: what the classifier is opened with.
    """

    build: Callable[[], PreTrainedModel]
    processor: dict[str, Any]
    image: str
    system: str = ""
    legacy: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def _text(head: int, *, kind: str, architecture: str, **fields: Any) -> dict[str, Any]:
    """A language model of two layers, and two heads of this width that share keys and values."""
    return {
        "model_type": kind, "architectures": [architecture], "hidden_size": 2 * head, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 256, "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "bos_token_id": None,
        "eos_token_id": token("<|im_end|>"), "pad_token_id": token("<|endoftext|>"), "dtype": "bfloat16", **fields,
    }  # fmt: skip


def _internvl(text: dict[str, Any], *, tied: bool, **vision: Any) -> InternVLForConditionalGeneration:
    encoder = {
        "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256,
        "image_size": [_SIDE, _SIDE], "patch_size": [14, 14], "attention_bias": True, "norm_type": "layer_norm",
        "use_mean_pooling": True, "dtype": "bfloat16", **vision,
    }  # fmt: skip
    config = InternVLConfig(
        vision_config=encoder,
        text_config={**text, "tie_word_embeddings": tied},
        image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=_TILE_TOKENS,
        downsample_ratio=0.5,
        tie_word_embeddings=tied,
    )
    return InternVLForConditionalGeneration(config)


def _internvl_qwen2() -> PreTrainedModel:
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = _text(64, kind="qwen2", architecture="Qwen2ForCausalLM", rope_parameters=rope)
    return _internvl(text, tied=False)


def _internvl_qwen3() -> PreTrainedModel:
    """With what the largest encoder of the family has: RMS norms, also of queries and keys, and heads of 128."""
    rope = {"rope_type": "default", "rope_theta": 1000000.0}
    text = _text(128, kind="qwen3", architecture="Qwen3ForCausalLM", head_dim=128, rope_parameters=rope)
    return _internvl(text, tied=True, hidden_size=256, norm_type="rms_norm", use_qk_norm=True, attention_bias=False)


def _qwen(configuration: Any, network: Any, text: dict[str, Any], vision: dict[str, Any], tied: bool) -> Any:
    return network(
        configuration(
            text_config={**text, "tie_word_embeddings": tied},
            vision_config={"depth": 3, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
            image_token_id=token("<|image_pad|>"),
            video_token_id=token("<|video_pad|>"),
            vision_start_token_id=token("<|vision_start|>"),
            vision_end_token_id=token("<|vision_end|>"),
            tie_word_embeddings=tied,
        )
    )


def _mrope(head: int) -> dict[str, Any]:
    """Rotary positions in time, height and width, which share a head's width as in the published models."""
    return {
        "rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],
    }  # fmt: skip


def _qwen2_vl(*, text_head: int, vision_head: int, tied: bool) -> Callable[[], PreTrainedModel]:
    text = _text(
        text_head,
        kind="qwen2_vl_text",
        architecture="Qwen2VLForConditionalGeneration",
        rope_parameters=_mrope(text_head),
    )
    vision = {"embed_dim": 2 * vision_head, "hidden_size": 2 * text_head, "num_heads": 2, "patch_size": 14}
    return lambda: _qwen(Qwen2VLConfig, Qwen2VLForConditionalGeneration, text, vision, tied)


def _qwen2_5_vl(*, text_head: int, vision_head: int, tied: bool) -> Callable[[], PreTrainedModel]:
    """Windows of 4x4 tokens in all layers of the encoder but one."""
    kind, architecture = "qwen2_5_vl_text", "Qwen2_5_VLForConditionalGeneration"
    text = _text(text_head, kind=kind, architecture=architecture, rope_parameters=_mrope(text_head))
    vision = {
        "hidden_size": 2 * vision_head, "out_hidden_size": 2 * text_head, "num_heads": 2, "patch_size": 14,
        "intermediate_size": 172, "window_size": 112, "fullatt_block_indexes": [1],
    }  # fmt: skip
    return lambda: _qwen(Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, text, vision, tied)


def _qwen3_5(*, vision_head: int, tied: bool) -> Callable[[], PreTrainedModel]:
    """Three layers with linear attention before each with full attention, whose heads are 256 wide."""
    rope = {
        "rope_type": "default", "rope_theta": 10000000.0, "partial_rotary_factor": 0.25, "mrope_section": [11, 11, 10],
        "mrope_interleaved": True,
    }  # fmt: skip
    text = _text(
        256, kind="qwen3_5_text", architecture="Qwen3_5ForCausalLM", num_hidden_layers=4, hidden_size=256, head_dim=256,
        linear_num_key_heads=4, linear_num_value_heads=8, linear_key_head_dim=128, linear_value_head_dim=128,
        rope_parameters=rope,
    )  # fmt: skip
    vision = {
        "hidden_size": 2 * vision_head, "out_hidden_size": 256, "num_heads": 2, "patch_size": 16,
        "intermediate_size": 256, "num_position_embeddings": 256,
    }  # fmt: skip
    return lambda: _qwen(Qwen3_5Config, Qwen3_5ForConditionalGeneration, text, vision, tied)


_USUAL: Final = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3, "rescale_factor": 1 / 255}
_GOT_OCR: Final = {
    "image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor", "min_patches": 1,
    "max_patches": 12, "crop_to_patches": False, "size": {"height": _SIDE, "width": _SIDE}, **_IMAGENET, **_USUAL,
}  # fmt: skip
_QWEN2: Final = {
    "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor", "patch_size": 14,
    "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 16 * 28**2, "max_pixels": 48 * 28**2, **_CLIP, **_USUAL,
}  # fmt: skip
_QWEN3: Final = {
    "image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor", "patch_size": 16,
    "merge_size": 2, "temporal_patch_size": 2, "size": {"shortest_edge": 16 * 32**2, "longest_edge": 48 * 32**2},
    **_HALF, **_USUAL,
}  # fmt: skip

_CONTEXT: Final = "<IMG_CONTEXT>\n"
_PAD: Final = "<|vision_start|><|image_pad|><|vision_end|>"
_HELPFUL: Final = "You are a helpful assistant."

#: By what tells them apart.
FAMILIES: Final = {
    "InternVL, encoder 64, Qwen2 64": Family(_internvl_qwen2, _GOT_OCR, _CONTEXT),
    "InternVL, tiles": Family(_internvl_qwen2, _GOT_OCR, _CONTEXT, options={"max_tiles": 4}),
    "InternVL, encoder 128, Qwen3 128, tied": Family(_internvl_qwen3, _GOT_OCR, _CONTEXT),
    "InternVLChatModel": Family(
        _internvl_qwen2, _GOT_OCR, _CONTEXT, "You are a cat.", legacy=True, options={"trust_remote_code": True}
    ),
    "Qwen2-VL, encoder 80, text 128, tied": Family(
        _qwen2_vl(text_head=128, vision_head=80, tied=True), _QWEN2, _PAD, _HELPFUL
    ),
    "Qwen2-VL, encoder 64, text 64": Family(
        _qwen2_vl(text_head=64, vision_head=64, tied=False), _QWEN2, _PAD, _HELPFUL
    ),
    "Qwen2.5-VL, encoder 80, text 128": Family(
        _qwen2_5_vl(text_head=128, vision_head=80, tied=False), _QWEN2, _PAD, _HELPFUL
    ),
    "Qwen2.5-VL, encoder 64, text 64, tied": Family(
        _qwen2_5_vl(text_head=64, vision_head=64, tied=True), _QWEN2, _PAD, _HELPFUL
    ),
    "Qwen3.5, encoder 64, tied": Family(_qwen3_5(vision_head=64, tied=True), _QWEN3, _PAD),
    "Qwen3.5, encoder 72": Family(_qwen3_5(vision_head=72, tied=False), _QWEN3, _PAD),
}


def write_family(family: Family, folder: Path) -> Path:
    """Write a checkpoint, and return the folder that Transformers reads the same network from.

    That is a folder of its own for the class InternVLChatModel, which Transformers does not have.
    """
    network = family.build()
    _draw(network)
    native = folder.with_name(f"{folder.name}-native") if family.legacy else folder
    network.to(torch.bfloat16).save_pretrained(native)
    write_json(native / "config.json", {**_read_json(native / "config.json"), "dtype": "bfloat16"})
    _write_rest(family, native)
    if family.legacy:
        _write_legacy(native, folder)
        _write_rest(family, folder)
    return native


def _draw(network: PreTrainedModel) -> None:
    """Weights of a scale that keeps states of about 1 from layer to layer, with some structure at every place."""
    source = torch.Generator().manual_seed(5)

    def normal(parameter: torch.Tensor, scale: float, centre: float = 0.0) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=source) * scale + centre)

    for name, parameter in network.named_parameters():
        with torch.no_grad():
            last = name.split(".")[-1]
            if last == "A_log":
                normal(parameter, 0.5, -2.0)  # linear attention that forgets over tens of tokens
            elif last in ("bias", "dt_bias"):
                normal(parameter, 0.2)
            elif parameter.dim() == 1:
                # Norms; in Qwen3.5's text model, most of them count from 1, and are near 0 when made.
                centre = 0.0 if float(parameter.abs().max()) == 0.0 else 1.0
                normal(parameter, 0.2, centre + (0.7 if "self_attn" in name else 0.0))
            elif "embed_tokens" in name and network.config.tie_word_embeddings:
                normal(parameter, _PEAKED / math.sqrt(parameter.shape[1]))
            elif "embed" in name and "patch" not in name:
                normal(parameter, 1.0)
            else:
                normal(parameter, _gain(name) / math.sqrt(parameter.numel() / parameter.shape[0]))


#: Deviation of scores over the vocabulary.
_PEAKED: Final = 3.0


def _gain(name: str) -> float:
    if "lm_head" in name:
        return _PEAKED
    # Queries and keys: scores with a deviation of about 2, so that attention is on several places, but not on all.
    return 1.5 if any(part in name for part in ("q_proj", "k_proj", "qkv")) else 1.0


def _write_rest(family: Family, folder: Path) -> None:
    """The tokenizer, and how the processor prepares images."""
    write_words(folder, image=family.image, system=family.system)
    write_json(folder / "preprocessor_config.json", family.processor)


def _write_legacy(native: Path, folder: Path) -> None:
    """The same network as the class InternVLChatModel has it: other names, and one matrix for queries, keys, values."""
    folder.mkdir()
    config = _read_json(native / "config.json")
    text, vision = config["text_config"], config["vision_config"]
    write_json(
        folder / "config.json",
        {
            "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
            "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"}, "ps_version": "v2",
            "dynamic_image_size": True, "force_image_size": _SIDE, "min_dynamic_patch": 1, "max_dynamic_patch": 12,
            "use_thumbnail": True, "select_layer": -1, "torch_dtype": "bfloat16", "llm_config": text,
            "vision_config": {
                **{name: vision[name] for name in (
                    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps",
                    "norm_type", "num_channels", "hidden_act",
                )},
                "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "image_size": _SIDE,
                "patch_size": 14, "qkv_bias": True, "qk_normalization": False, "torch_dtype": "bfloat16",
            },
        },
    )  # fmt: skip
    (folder / "configuration_internvl_chat.py").write_text(_CONFIGURATION)
    save_file(_renamed(load_file(native / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


_CONFIGURATION: Final = '''"""The configuration of InternVLChatModel."""

from transformers import PretrainedConfig, Qwen2Config


class InternVLChatConfig(PretrainedConfig):
    model_type = "internvl_chat"

    def __init__(self, vision_config=None, llm_config=None, **others):
        super().__init__(**others)
        self.vision_config = PretrainedConfig(**(vision_config or {}))
        self.llm_config = Qwen2Config(**(llm_config or {}))
'''

_LEGACY: Final = {
    "vision_tower.embeddings.cls_token": "vision_model.embeddings.class_embedding",
    "vision_tower.embeddings.position_embeddings": "vision_model.embeddings.position_embedding",
    "vision_tower.embeddings.patch_embeddings.projection.": "vision_model.embeddings.patch_embedding.",
    "vision_tower.encoder.layer.": "vision_model.encoder.layers.",
    ".attention.projection_layer.": ".attn.proj.",
    ".layernorm_before.": ".norm1.",
    ".layernorm_after.": ".norm2.",
    ".lambda_": ".ls",
    "multi_modal_projector.layer_norm.": "mlp1.0.",
    "multi_modal_projector.linear_1.": "mlp1.1.",
    "multi_modal_projector.linear_2.": "mlp1.3.",
}


def _renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if ".attention.q_proj." in name:
            parts = [tensors[name.replace(".q_proj.", f".{kind}_proj.")] for kind in "qkv"]
            name, tensor = name.replace(".attention.q_proj.", ".attn.qkv."), torch.cat(parts)
        elif ".attention.k_proj." in name or ".attention.v_proj." in name:
            continue
        for old, new in _LEGACY.items():
            name = name.replace(old, new)
        found[name] = tensor.contiguous()
    return found


def _read_json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content
