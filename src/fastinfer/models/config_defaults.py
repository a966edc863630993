"""What fields of a ``config.json`` mean where they are missing.

Transformers leaves out, when it saves a model, fields that have the default value of their configuration class; many
published fine-tunes of Qwen2.5-VL are saved so. These are the defaults of Transformers 5, by ``model_type``, of the
fields that are read here. Models whose configuration class is not in Transformers have all fields in their file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["TEXT_DEFAULTS", "VISION_DEFAULTS"]

_QWEN: Final = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
}
_QWEN_VL: Final = {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
}
_QWEN_3_5: Final = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 248320,
    "max_position_embeddings": 32768,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}

TEXT_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "qwen2_vl": _QWEN_VL,
    "qwen2_vl_text": _QWEN_VL,
    "qwen2_5_vl": _QWEN_VL,
    "qwen2_5_vl_text": _QWEN_VL,
    "qwen3_5_text": _QWEN_3_5,
}

VISION_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "internvl": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": [448, 448],
        "patch_size": [14, 14],
    },
    "qwen2_vl": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2},
    "qwen2_5_vl": {"hidden_size": 3584, "depth": 32, "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2},
    "qwen3_5": {"hidden_size": 1152, "depth": 27, "num_heads": 16, "patch_size": 16, "spatial_merge_size": 2},
}
