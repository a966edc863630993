"""Small safetensors files written by hand, and config.json of published models."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

__all__ = ["CONFIGS", "PROCESSORS", "safetensors_file", "write_checkpoint"]

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4}
NORM = {"model.norm.weight": ("BF16", (4,))}


def safetensors_file(tensors: dict[str, tuple[str, tuple[int, ...]]], *, seed: int = 0, **changes: Any) -> bytes:
    """Tensors of these formats and shapes with random bytes; ``changes`` replace entries of the header."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header | changes).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(end)


def write_checkpoint(
    folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]] | None = None, **files: Any
) -> Path:
    """A folder with config.json, model.safetensors, and ``NAME.json`` for each further ``NAME``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors_file(tensors or NORM))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _qwen2_text(**fields: Any) -> dict[str, Any]:
    return {
        "hidden_act": "silu",
        "hidden_size": 3584,
        "initializer_range": 0.02,
        "intermediate_size": 18944,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "model_type": "qwen2",
        "num_attention_heads": 28,
        "num_hidden_layers": 28,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 152064,
        **fields,
    }


_INTERNVL = {
    "architectures": ["InternVLForConditionalGeneration"],
    "downsample_ratio": 0.5,
    "image_seq_length": 256,
    "image_token_id": 151667,
    "model_type": "internvl",
    "projector_hidden_act": "gelu",
    "text_config": _qwen2_text(
        architectures=["Qwen2ForCausalLM"], eos_token_id=151643, torch_dtype="bfloat16", vocab_size=151674
    ),
    "torch_dtype": "bfloat16",
    "vision_config": {
        "architectures": ["InternVisionModel"],
        "attention_bias": True,
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "image_size": [448, 448],
        "intermediate_size": 4096,
        "layer_norm_eps": 1e-06,
        "model_type": "internvl_vision",
        "norm_type": "layer_norm",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": [14, 14],
        "use_qk_norm": False,
    },
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default",
}

_INTERNVL_CHAT = {
    "architectures": ["InternVLChatModel"],
    "auto_map": {
        "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
        "AutoModel": "modeling_internvl_chat.InternVLChatModel",
    },
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "llm_config": {
        "architectures": ["InternLM2ForCausalLM"],
        "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"},
        "eos_token_id": 2,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "max_position_embeddings": 32768,
        "model_type": "internlm2",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": 92553,
    },
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "model_type": "internvl_chat",
    "ps_version": "v2",
    "select_layer": -1,
    "template": "internlm2-chat",
    "torch_dtype": "bfloat16",
    "use_thumbnail": True,
    "vision_config": {
        "architectures": ["InternVisionModel"],
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "image_size": 448,
        "intermediate_size": 4096,
        "layer_norm_eps": 1e-06,
        "model_type": "intern_vit_6b",
        "norm_type": "layer_norm",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "qk_normalization": False,
        "qkv_bias": True,
        "torch_dtype": "bfloat16",
    },
}

_QWEN2_VISION = {
    "depth": 32,
    "embed_dim": 1280,
    "mlp_ratio": 4,
    "num_heads": 16,
    "in_chans": 3,
    "hidden_size": 1536,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "temporal_patch_size": 2,
}

_QWEN2_VL = {
    **_qwen2_text(
        hidden_size=1536,
        intermediate_size=8960,
        model_type="qwen2_vl",
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151936,
    ),
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "image_token_id": 151655,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vision_config": _QWEN2_VISION,
}

_QWEN2_5_VISION = {
    "depth": 32,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "hidden_act": "silu",
    "hidden_size": 1280,
    "in_chans": 3,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "spatial_patch_size": 14,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": 112,
}

_QWEN2_5_VL = {
    **_qwen2_text(max_position_embeddings=128000, model_type="qwen2_5_vl"),
    "architectures": ["Qwen2_5_VLForConditionalGeneration"],
    "eos_token_id": 151645,
    "image_token_id": 151655,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vision_config": _QWEN2_5_VISION,
}

_MROPE = {"mrope_section": [16, 24, 24], "rope_theta": 1000000.0, "rope_type": "default"}

CONFIGS: dict[str, dict[str, Any]] = {
    "internvl": _INTERNVL,
    "internvl_chat": _INTERNVL_CHAT,
    "qwen2_vl": _QWEN2_VL,
    "qwen2_vl_nested": {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "dtype": "float16",
        "model_type": "qwen2_vl",
        "text_config": {
            **_qwen2_text(hidden_size=1536, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936),
            "dtype": "bfloat16",
            "eos_token_id": 151645,
            "model_type": "qwen2_vl_text",
            "rope_parameters": _MROPE,
            "tie_word_embeddings": True,
        },
        "vision_config": {**_QWEN2_VISION, "model_type": "qwen2_vl_vision"},
    },
    "qwen2_5_vl": _QWEN2_5_VL,
    "qwen2_5_vl_nested": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "dtype": "bfloat16",
        "model_type": "qwen2_5_vl",
        "text_config": {
            **_qwen2_text(max_position_embeddings=128000),
            "model_type": "qwen2_5_vl_text",
            "rope_parameters": _MROPE,
        },
        "vision_config": {**_QWEN2_5_VISION, "model_type": "qwen2_5_vl_vision"},
    },
    # As fine-tunes of it are saved: without what Transformers has as a default.
    "qwen2_5_vl_short": {
        **{name: value for name, value in _QWEN2_5_VL.items() if name not in ("max_position_embeddings", "vocab_size")},
        "vision_config": {"hidden_size": 1280, "in_chans": 3, "model_type": "qwen2_5_vl", "tokens_per_second": 2},
    },
    "qwen3_5": {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "image_token_id": 248056,
        "model_type": "qwen3_5",
        "text_config": {
            "attn_output_gate": True,
            "dtype": "bfloat16",
            "eos_token_id": 248044,
            "full_attention_interval": 4,
            "head_dim": 256,
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 16,
            "linear_value_head_dim": 128,
            "max_position_embeddings": 262144,
            "model_type": "qwen3_5_text",
            "num_attention_heads": 8,
            "num_hidden_layers": 24,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "tie_word_embeddings": True,
            "vocab_size": 248320,
        },
        "tie_word_embeddings": True,
        "vision_config": {
            "depth": 12,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 768,
            "in_channels": 3,
            "intermediate_size": 3072,
            "model_type": "qwen3_5",
            "num_heads": 12,
            "num_position_embeddings": 2304,
            "out_hidden_size": 1024,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    },
}

PROCESSORS: dict[str, dict[str, Any]] = {
    "internvl": {
        "crop_to_patches": False,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "image_std": [0.229, 0.224, 0.225],
        "max_patches": 12,
        "min_patches": 1,
        "processor_class": "InternVLProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 448, "width": 448},
    },
    "qwen2_vl": {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": 12845056,
        "merge_size": 2,
        "min_pixels": 3136,
        "patch_size": 14,
        "processor_class": "Qwen2VLProcessor",
        "temporal_patch_size": 2,
    },
}
