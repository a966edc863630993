"""Checkpoints whose text model is quantised, laid out as AutoAWQ's ``gemm``, as GPTQ, or as FP8 in blocks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from family_words import write_json

__all__ = ["METHODS", "write_quantised"]

_GROUP: Final = 128  # inputs that share a scale and a zero; FP8's blocks are as many outputs wide
_AWQ_ORDER: Final = (0, 2, 4, 6, 1, 3, 5, 7)  # the columns of eight, from the lowest four bits of a word up
_GPTQ_ORDER: Final = tuple(range(8))
_FP8_LARGEST: Final = 448.0
_LINEARS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_Parts = dict[str, torch.Tensor]


def write_quantised(method: str, source: Path, folder: Path) -> Path:
    """Quantise a checkpoint, and return a folder with the same network and plain weights.

    Args:
        method: one of :data:`METHODS`.
        source: a checkpoint whose text model's widths are multiples of 128.
        folder: for the quantised one; it does not exist yet.
    """
    quantise, description = METHODS[method]
    plain = folder.with_name(f"{folder.name}-plain")
    tensors = load_file(source / "model.safetensors")
    packed, unpacked = {}, {}
    for name, tensor in tensors.items():
        tensor = tensor.half()
        if name.startswith("language_model.") and name.split(".")[-2] in _LINEARS and name.endswith(".weight"):
            parts, values = quantise(tensor.float())
            base = name.removesuffix("weight")
            packed |= {f"{base}{part}": content for part, content in parts.items()}
            unpacked[name] = values.half()
        else:
            packed[name] = unpacked[name] = tensor
    config = json.loads((source / "config.json").read_text())
    config["dtype"] = config["text_config"]["dtype"] = config["vision_config"]["dtype"] = "float16"
    quantised = {"quantization_config": {"quant_method": method, **description}}
    for target, content, more in ((plain, unpacked, {}), (folder, packed, quantised)):
        shutil.copytree(source, target)
        content = {name: tensor.contiguous() for name, tensor in content.items()}
        save_file(content, target / "model.safetensors", {"format": "pt"})
        write_json(target / "config.json", {**config, **more})
    return plain


def _awq(weight: torch.Tensor) -> tuple[_Parts, torch.Tensor]:
    """Of a matrix (outputs, inputs): words, packed zeros, scales, and the matrix that they stand for."""
    groups = _groups(weight)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
    scales = ((high - low) / 15).half().float()
    zeros = (-low / scales).round().clamp(0, 15)
    levels = (groups / scales + zeros).round().clamp(0, 15)
    rows = levels.flatten(0, 1)
    parts = {
        "qweight": _packed(rows, _AWQ_ORDER),
        "qzeros": _packed(zeros[:, 0], _AWQ_ORDER),
        "scales": scales[:, 0].half(),
    }
    return parts, ((levels - zeros) * scales).flatten(0, 1).T


def _gptq(weight: torch.Tensor) -> tuple[_Parts, torch.Tensor]:
    """The same around a zero of 8, of which the format stores one less; its words hold eight inputs of one output."""
    groups = _groups(weight)
    scales = (groups.abs().amax(1, keepdim=True) / 7).half().float()
    levels = (groups / scales).round().clamp(-8, 7) + 8
    parts = {
        "qweight": _packed(levels.flatten(0, 1).T, _GPTQ_ORDER).T,
        "qzeros": _packed(torch.full_like(scales[:, 0], 7), _GPTQ_ORDER),
        "scales": scales[:, 0].half(),
    }
    return parts, ((levels - 8) * scales).flatten(0, 1).T


def _fp8(weight: torch.Tensor) -> tuple[_Parts, torch.Tensor]:
    """Of a matrix (outputs, inputs): its 8-bit numbers, a scale for each block, and the matrix that they stand for."""
    blocks = weight.unflatten(0, (-1, _GROUP)).unflatten(2, (-1, _GROUP))
    scales = blocks.abs().amax((1, 3), keepdim=True) / _FP8_LARGEST
    levels = (blocks / scales).to(torch.float8_e4m3fn)
    values = (levels.float() * scales).reshape(weight.shape)
    return {"weight": levels.reshape(weight.shape), "weight_scale_inv": scales[:, 0, :, 0]}, values


#: Its name in ``quantization_config``: how a matrix is quantised, and what else the configuration says.
METHODS: Final[dict[str, tuple[Callable[[torch.Tensor], tuple[_Parts, torch.Tensor]], dict[str, Any]]]] = {
    "awq": (_awq, {"bits": 4, "group_size": _GROUP, "version": "gemm", "zero_point": True}),
    "gptq": (_gptq, {"bits": 4, "group_size": _GROUP, "sym": True, "desc_act": False}),
    "fp8": (_fp8, {"activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [_GROUP, _GROUP]}),
}


def _groups(weight: torch.Tensor) -> torch.Tensor:
    """A matrix (outputs, inputs) as (groups, inputs of a group, outputs)."""
    return weight.T.unflatten(0, (-1, _GROUP))


def _packed(levels: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """(rows, columns) of 0 to 15 as (rows, columns / 8) int32."""
    eights = levels.to(torch.int64).reshape(levels.shape[0], -1, 8)
    words = sum(eights[:, :, column] << (4 * place) for place, column in enumerate(order))
    assert isinstance(words, torch.Tensor)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)
