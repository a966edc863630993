"""A checkpoint whose text model is quantised to 4 bits, as AutoAWQ's ``gemm`` version lays it out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from family_words import write_json

__all__ = ["write_awq"]

_GROUP: Final = 128  # inputs that share a scale and a zero
_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)  # the columns of eight, from the lowest four bits of a word up
_LINEARS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_awq(source: Path, folder: Path) -> Path:
    """Quantise a checkpoint, and return a folder with the same network and plain weights.

    Args:
        source: a checkpoint whose text model's widths are multiples of 128.
        folder: for the quantised one; it does not exist yet.
    """
    plain = folder.with_name(f"{folder.name}-plain")
    tensors = load_file(source / "model.safetensors")
    packed, unpacked = {}, {}
    for name, tensor in tensors.items():
        tensor = tensor.half()
        if name.startswith("language_model.") and name.split(".")[-2] in _LINEARS and name.endswith(".weight"):
            words, zeros, scales, values = _quantised(tensor)
            base = name.removesuffix("weight")
            packed |= {f"{base}qweight": words, f"{base}qzeros": zeros, f"{base}scales": scales}
            unpacked[name] = values
        else:
            packed[name] = unpacked[name] = tensor
    config = json.loads((source / "config.json").read_text())
    config["dtype"] = config["text_config"]["dtype"] = config["vision_config"]["dtype"] = "float16"
    method = {"quant_method": "awq", "bits": 4, "group_size": _GROUP, "version": "gemm", "zero_point": True}
    for target, content, more in ((plain, unpacked, {}), (folder, packed, {"quantization_config": method})):
        shutil.copytree(source, target)
        content = {name: tensor.contiguous() for name, tensor in content.items()}
        save_file(content, target / "model.safetensors", {"format": "pt"})
        write_json(target / "config.json", {**config, **more})
    return plain


def _quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a matrix (outputs, inputs): words, packed zeros, scales, and the matrix that they stand for, in float16."""
    outputs, inputs = weight.shape
    groups = weight.float().T.reshape(inputs // _GROUP, _GROUP, outputs)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(0, 15)
    levels = (groups / scales + zeros).round().clamp(0, 15)
    values = ((levels - zeros) * scales).reshape(inputs, outputs).T.contiguous().half()
    return _packed(levels.reshape(inputs, outputs)), _packed(zeros[:, 0]), scales[:, 0].half(), values


def _packed(levels: torch.Tensor) -> torch.Tensor:
    """(rows, columns) of 0 to 15 as (rows, columns / 8) int32."""
    eights = levels.to(torch.int64).reshape(levels.shape[0], -1, 8)
    words = sum(eights[:, :, column] << (4 * place) for place, column in enumerate(_ORDER))
    assert isinstance(words, torch.Tensor)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
