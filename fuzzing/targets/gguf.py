"""The header of a GGUF file: a description that the file can hold, or one error."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from fastinfer.errors import ModelLoadError
from fastinfer.models.ggml_types import GGML_TYPES
from fastinfer.models.gguf import read_gguf_header

__all__ = ["WORDS", "check", "seeds"]

WORDS = (
    *(b"GGUF\3\0\0\0", b"general.alignment", b"general.architecture", b"general.type", b"clip", b"mmproj", b"llama"),
    *(struct.pack("<I", code) for code in range(13)),
    *(struct.pack("<Q", number) for number in (0, 1, 32, 1 << 16, 1 << 32, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)),
)
_PATH = Path("file.gguf")


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def seeds() -> list[bytes]:
    """Small files with values of every type, lists, and tensors plain and quantised."""
    values = [
        _text("general.architecture") + struct.pack("<I", 8) + _text("llama"),
        _text("general.alignment") + struct.pack("<II", 4, 32),
        _text("rope") + struct.pack("<If", 6, 0.5),
        _text("flag") + struct.pack("<IB", 7, 1),
        _text("wide") + struct.pack("<Id", 12, float("nan")),
        _text("tokens") + struct.pack("<IIQ", 9, 8, 2) + _text("a") + _text("é"),
        _text("sizes") + struct.pack("<IIQ3i", 9, 5, 3, 1, 2, 3),
    ]
    tensors = [
        _text("a") + struct.pack("<I2QIQ", 2, 4, 2, 0, 0),
        _text("b") + struct.pack("<IQIQ", 1, 32, 8, 32),
        _text("c") + struct.pack("<IQIQ", 1, 3, 1, 96),
    ]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + b"".join(tensors)
    whole = head + bytes(-len(head) % 32) + bytes(102)
    return [whole, b"GGUF" + struct.pack("<IQQ", 2, 0, 0), b"GGUF" + struct.pack("<IQQ", 3, 0, 7) + b"".join(values)]


def check(data: bytes) -> None:
    """What the header announces lies in the file, one tensor behind the other."""
    try:
        header = read_gguf_header(io.BytesIO(data), _PATH, len(data))
    except ModelLoadError as error:
        assert error.hint
        assert str(_PATH) in error.message
        return
    assert header.version in (2, 3)
    assert header.size == len(data)
    # Each pair and each tensor takes bytes, so that their number is bounded by the file's length.
    assert 13 * (len(header.metadata) + len(header.array_lengths)) + 24 * header.tensor_count <= len(data)
    assert all(0 <= count <= len(data) for count in header.array_lengths.values())
    sizes = {known.name: (known.block, known.size) for known in GGML_TYPES.values()}
    end = header.data_offset
    for tensor in header.tensors:
        begin = header.data_offset + tensor.offset
        elements = 1
        for side in tensor.shape:
            assert 0 <= side < 1 << 63
            elements *= side
        assert elements < 1 << 63
        if tensor.size is None:
            assert tensor.type not in sizes
            assert end <= begin <= len(data)
            end = begin  # how long it is only llama.cpp knows
            continue
        block, size = sizes[tensor.type]
        assert tensor.size == elements // block * size
        assert begin >= end, "tensors overlap"
        end = begin + tensor.size
        assert end <= len(data), "a tensor beyond the end"
