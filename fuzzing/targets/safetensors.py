"""The header of a safetensors file: tensors that fill the file exactly, or one error."""

from __future__ import annotations

import atexit
import json
import math
import shutil
import struct
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from fastinfer.errors import ModelLoadError
from fastinfer.models.safetensors import read_header, read_tensor

__all__ = ["WORDS", "check", "seeds"]

WORDS = (
    *(b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b'"F32"', b'"BF16"', b'"F4"', b'"I64"', b'"X9"'),
    *(b"[]", b"[0]", b"[0,0]", b"[1,2]", b"9223372036854775808", b"1e999", b"NaN", b"-1", b"true", b"null", b"{}"),
)
_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I64": 8}


def _file(tensors: dict[str, Any], data: int) -> bytes:
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes(range(256)) * (data // 256) + bytes(range(data % 256))


def seeds() -> list[bytes]:
    """Small files with numbers of several formats, shapes without elements, and metadata."""
    several = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "F4", "shape": [2], "data_offsets": [32, 33]},
        "none": {"dtype": "F16", "shape": [0, 7], "data_offsets": [33, 33]},
        "one": {"dtype": "I64", "shape": [], "data_offsets": [33, 41]},
    }
    return [_file(several, 41), _file({"a": {"dtype": "F16", "shape": [3], "data_offsets": [0, 6]}}, 6), _file({}, 0)]


@cache
def _place() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "model.safetensors"


def check(data: bytes) -> None:
    """Every byte behind the header belongs to one tensor, and what can be mapped has the numbers that are there."""
    file = _place()
    file.write_bytes(data)
    try:
        tensors = read_header(file)
    except ModelLoadError as error:
        assert error.hint
        assert str(file) in error.message
        return
    at = 8 + struct.unpack_from("<Q", data)[0]
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
        assert tensor.offset == at, "a gap, or tensors that overlap"
        at += tensor.nbytes
        if tensor.dtype in _BYTES:
            assert tensor.nbytes == math.prod(tensor.shape) * _BYTES[tensor.dtype]
        try:
            numbers = read_tensor(tensor)
        except ModelLoadError as error:
            assert error.hint
        else:
            assert numbers.shape == tensor.shape
            assert numbers.tobytes() == data[tensor.offset : tensor.offset + tensor.nbytes]
    assert at == len(data)
