"""Stand-ins for model files: as long as the file, with its header, and a hole where the tensors' numbers are.

On a file system with sparse files a hole takes no room, and reads as zeros.
"""

from __future__ import annotations

import json
import math
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelLoadError
from fastinfer.models.ggml_types import GGML_TYPES

__all__ = ["stand_in_folder", "write_gguf", "write_safetensors", "writing"]

_VERSION: Final = 3
_ALIGNMENT: Final = 32
_TYPES: Final = {known.name: (code, known) for code, known in GGML_TYPES.items()}


@contextmanager
def stand_in_folder(repo: str) -> Iterator[Path]:
    """A folder for stand-ins, which is removed with all that is in it after the block.

    Args:
        repo: ``"org/repo"``, which the folder's path ends with, so that an error about a file in it says whose it is.

    Raises:
        ModelLoadError: it cannot be made.
    """
    with ExitStack() as stack:
        with writing(Path(repo)):
            outer = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastinfer-", ignore_cleanup_errors=True))
            folder = Path(outer, repo)
            folder.mkdir(parents=True)
        yield folder


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns the errors of writing a stand-in into ours.

    Raises:
        ModelLoadError: writing failed.
    """
    try:
        yield
    except OSError as error:
        raise ModelLoadError(
            f"{path}: a stand-in for the model's file cannot be written: {error.strerror or error}.",
            hint="Name another folder in TMPDIR; where it has sparse files, a stand-in takes next to no room.",
        ) from error


def write_gguf(
    path: Path, metadata: Mapping[str, int | float | str], tensors: Iterable[tuple[str, Sequence[int], str]]
) -> None:
    """Write a stand-in for a GGUF file of version 3.

    Args:
        path: the file.
        metadata: whole numbers below 2^32, other numbers and texts by key.
        tensors: name, elements along each dimension (the one that is contiguous in memory first), and number format,
            for example ``"Q4_K"``.

    Raises:
        ModelLoadError: it cannot be written.
    """
    described, end = [], 0
    for name, shape, type_name in tensors:
        code, known = _TYPES[type_name]
        described.append(_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, code, end))
        end += _aligned(math.prod(shape) // known.block * known.size)
    pairs = [_text(key) + _value(value) for key, value in metadata.items()]
    counts = struct.pack("<IQQ", _VERSION, len(described), len(pairs))
    header = b"".join((b"GGUF", counts, *pairs, *described))
    _write(path, header, _aligned(len(header)) + end)


def write_safetensors(path: Path, tensors: Mapping[str, Sequence[int]]) -> None:
    """Write a stand-in for a safetensors file of BF16 tensors.

    Args:
        path: the file.
        tensors: shapes by name, the dimension that is contiguous in memory last.

    Raises:
        ModelLoadError: it cannot be written.
    """
    entries, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    _write(path, header, len(header) + end)


def _write(path: Path, header: bytes, size: int) -> None:
    with writing(path), path.open("wb") as file:
        file.write(header)
        file.truncate(size)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: int | float | str) -> bytes:
    """A value with its type before it, as the GGUF specification numbers them."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<II", 4, value)
