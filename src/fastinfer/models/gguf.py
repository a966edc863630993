"""A strict reader for the header of a GGUF file: what is in it, and whether the file can hold what it announces."""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.ggml_types import GGML_TYPES
from fastinfer.models.reader import HeaderReader, damaged

__all__ = ["GgufHeader", "GgufTensor", "check_gguf", "read_gguf_header"]

_MAX_PAIRS: Final = 1 << 16
_MAX_TENSORS: Final = 1 << 16
_MAX_KEY: Final = (1 << 16) - 1  # bytes
_MAX_TEXT: Final = 1 << 20  # bytes of a value that is kept
_MAX_NAME: Final = 63  # bytes, as in llama.cpp
_MAX_DIMENSIONS: Final = 4
_MAX_ELEMENTS: Final = (1 << 63) - 1

_SCALARS: Final = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "B",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_UINT32, _BOOL, _STRING, _ARRAY = 4, 7, 8, 9

_OTHERS: Final = (
    ("a web page", re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)),
    ("a Git LFS pointer, not the file it stands for", re.compile(rb"version .*\noid sha256:")),
    ("a safetensors file", re.compile(rb".{6}\0\0\{", re.DOTALL)),
    ("a ZIP archive or PyTorch checkpoint", re.compile(rb"PK\x03\x04")),
    ("a GGML file of before GGUF", re.compile(rb"lmgg|fmgg|tjgg|algg")),
    ("a JSON text", re.compile(rb"\s*[{\[]\s*[\"\]}]")),
)


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor as the header announces it.

    Attributes:
        name: its name.
        shape: elements along each dimension, the one that is contiguous in memory first; 0 to 4 dimensions.
        type: number format, for example ``"Q4_K"``; ``"type N"`` for one that is not known here.
        offset: bytes from the beginning of the tensor data.
        size: bytes, or None where the format is not known here.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int | None


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the header of a GGUF file says.

    Attributes:
        path: the file.
        size: its length in bytes.
        version: of the format, 2 or 3.
        architecture: for example ``"qwen2"``, ``"clip"`` for a projector; None where the file names none, as the
            second and later parts of a split model.
        kind: ``"mmproj"`` for the image or audio part of a model, else ``"model"``.
        metadata: numbers, truth values and texts by key. Lists, and texts over 1 MiB, are left out.
        array_lengths: number of elements of each list, by key.
        tensors: the tensors, in the order of the file.
        data_offset: bytes from the beginning of the file to the tensor data.
    """

    path: Path
    size: int
    version: int
    architecture: str | None
    kind: Literal["model", "mmproj"]
    metadata: dict[str, int | float | bool | str] = field(repr=False)
    array_lengths: dict[str, int] = field(repr=False)
    tensors: tuple[GgufTensor, ...] = field(repr=False)
    data_offset: int

    @property
    def tensor_count(self) -> int:
        """How many tensors the file holds, 0 to 65536."""
        return len(self.tensors)


def check_gguf(path: str | os.PathLike[str]) -> GgufHeader:
    """Read the header of a GGUF file and check that the file holds the tensors it announces.

    Only the header is read, so the time depends on the vocabulary (about 0.1 s for 260 000 tokens), not on the length
    of the file. The tensor data is not looked at. The size of tensors whose format is not known here is not checked.

    Raises:
        ModelNotFoundError: there is no such file.
        ModelLoadError: it cannot be read, is something else than a GGUF file of version 2 or 3, ends too early, or
            contradicts itself; names the file and what is wrong.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelLoadError(f"{path}: not a file.", hint="Name a .gguf file.")
        with path.open("rb", buffering=0) as file:
            return read_gguf_header(file, path, os.fstat(file.fileno()).st_size)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ModelNotFoundError(f"{path}: there is no such file.", hint="Check the path.") from error
    except OSError as error:
        raise ModelLoadError(
            f"{path}: cannot be read: {error.strerror or error}.", hint="Check the file's permissions and its disk."
        ) from error


def read_gguf_header(file: BinaryIO, path: Path, size: int) -> GgufHeader:
    """Read the header of an open GGUF file, checked as :func:`check_gguf` does it.

    Args:
        file: the file, opened unbuffered, at its beginning; at most 256 KiB behind the header are
            read.
        path: its path.
        size: its length in bytes.

    Raises:
        ModelLoadError: as :func:`check_gguf`.
    """
    reader = HeaderReader(file, path, size)
    version = _read_version(reader, file)
    tensor_count = _bounded(reader, reader.u64("the number of tensors"), _MAX_TENSORS, "tensors")
    pair_count = _bounded(reader, reader.u64("the number of metadata pairs"), _MAX_PAIRS, "metadata pairs")
    metadata, lengths = _read_metadata(reader, pair_count)
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str | None):
        raise damaged(reader.path, "its general.architecture is not a text")
    tensors, data_offset = _read_tensors(reader, tensor_count, _alignment(reader, metadata))
    return GgufHeader(
        path=reader.path,
        size=reader.size,
        version=version,
        architecture=architecture or None,
        kind="mmproj" if architecture == "clip" or metadata.get("general.type") == "mmproj" else "model",
        metadata=metadata,
        array_lengths=lengths,
        tensors=tensors,
        data_offset=data_offset,
    )


def _read_version(reader: HeaderReader, file: BinaryIO) -> int:
    if reader.size == 0:
        raise damaged(reader.path, "it is empty")
    head = file.read(512)
    if not head.startswith(b"GGUF"):
        other = next((name for name, pattern in _OTHERS if pattern.match(head)), None)
        raise damaged(reader.path, f"it is {other}" if other else f"it begins with {head[:4]!r} instead of b'GGUF'")
    reader.take(4, "the magic number")
    version = reader.u32("the version")
    if version & 0xFFFF == 0 and version:
        raise damaged(reader.path, "it was written for big-endian machines")
    if version not in (2, 3):
        raise damaged(reader.path, f"it is of version {version}; versions 2 and 3 are read")
    return version


def _bounded(reader: HeaderReader, count: int, limit: int, what: str) -> int:
    if count > limit:
        raise damaged(reader.path, f"it announces {count} {what}; at most {limit} are possible")
    return count


def _read_metadata(reader: HeaderReader, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    scalars: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    seen: set[bytes] = set()
    for number in range(1, count + 1):
        what = f"metadata pair {number} of {count}"
        raw = reader.text(_MAX_KEY, what)
        if not raw or raw in seen:
            raise damaged(reader.path, f"the key of {what} is {'given twice' if raw else 'empty or too long'}")
        seen.add(raw)
        key = raw.decode("utf-8", "replace")
        what = f"the value of {key[:100]!r}"
        code = reader.u32(what)
        if code == _ARRAY:
            lengths[key] = _skip_array(reader, what)
        elif code == _STRING:
            text = reader.text(_MAX_TEXT, what)
            if text is not None:
                scalars[key] = text.decode("utf-8", "replace")
        elif code in _SCALARS:
            (value,) = _SCALARS[code].unpack(reader.take(_SCALARS[code].size, what))
            scalars[key] = bool(value) if code == _BOOL else value
            if key == "general.alignment" and code != _UINT32:
                raise damaged(reader.path, f"{what} is not an unsigned 32-bit number")
        else:
            raise damaged(reader.path, f"{what} has the unknown type {code}")
    return scalars, lengths


def _skip_array(reader: HeaderReader, what: str) -> int:
    code = reader.u32(what)
    count = reader.u64(what)
    if code == _STRING:
        reader.skip_texts(count, what)
    elif code in _SCALARS:
        reader.skip(count * _SCALARS[code].size, what)
    else:
        raise damaged(reader.path, f"{what} is a list with elements of the unknown type {code}")
    return count


def _alignment(reader: HeaderReader, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise damaged(reader.path, f"its alignment {alignment!r} is not a power of 2")
    return alignment


def _read_tensors(reader: HeaderReader, count: int, alignment: int) -> tuple[tuple[GgufTensor, ...], int]:
    tensors: list[GgufTensor] = []
    seen: set[bytes] = set()
    for number in range(1, count + 1):
        what = f"the description of tensor {number} of {count}"
        raw = reader.text(_MAX_NAME, what)
        if raw is None or raw in seen:
            raise damaged(reader.path, f"{what} has a name {'too long' if raw is None else 'given twice'}")
        seen.add(raw)
        tensors.append(_read_tensor(reader, raw.decode("utf-8", "replace"), what))
    data_offset = -(-reader.position // alignment) * alignment
    _check_places(reader, tensors, data_offset, alignment)
    return tuple(tensors), data_offset


def _read_tensor(reader: HeaderReader, name: str, what: str) -> GgufTensor:
    dimensions = _bounded(reader, reader.u32(what), _MAX_DIMENSIONS, f"dimensions for tensor {name!r}")
    *shape, code, offset = struct.unpack(f"<{dimensions}QIQ", reader.take(dimensions * 8 + 12, what))
    elements = math.prod(shape)
    if max(shape, default=0) > _MAX_ELEMENTS or elements > _MAX_ELEMENTS:
        raise damaged(reader.path, f"tensor {name!r} has the impossible shape {shape}")
    known = GGML_TYPES.get(code)
    if known is None:
        return GgufTensor(name, tuple(shape), f"type {code}", offset, None)
    row = shape[0] if shape else 1
    if row % known.block:
        raise damaged(
            reader.path, f"tensor {name!r} has rows of {row}, no multiple of {known.block} as {known.name} needs"
        )
    return GgufTensor(name, tuple(shape), known.name, offset, elements // known.block * known.size)


def _check_places(reader: HeaderReader, tensors: list[GgufTensor], data_offset: int, alignment: int) -> None:
    # llama.cpp wants the tensors one after the other, each padded to the alignment. Behind one whose length is not
    # known here may be any gap, but what follows does not lie before it.
    least, is_exact = 0, True
    for tensor in tensors:
        if tensor.offset % alignment or tensor.offset < least or (is_exact and tensor.offset > least):
            raise damaged(reader.path, f"tensor {tensor.name!r} is not where it has to be, at offset {tensor.offset}")
        end = data_offset + tensor.offset + (tensor.size or 0)
        if end > reader.size:
            raise damaged(
                reader.path,
                f"incomplete: tensor {tensor.name!r} ends at byte {end}, but the file at byte {reader.size}",
            )
        least, is_exact = tensor.offset + -(-(tensor.size or 0) // alignment) * alignment, tensor.size is not None
