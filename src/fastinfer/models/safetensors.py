"""Weights in safetensors files: which files a folder has, what their headers say, and one tensor's numbers.

A safetensors file is the length of its header (8 bytes, little-endian), the header (a JSON object that gives each
tensor's number format, shape, and first and last byte), then the tensors' bytes, one after the other without gaps.
Files are checked here, so that native code never sees one that is damaged.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastinfer.errors import ModelLoadError
from fastinfer.models.config_fields import Fields

if TYPE_CHECKING:
    import numpy as np

__all__ = ["INDEX", "TensorPlace", "check_weight_files", "choose_weights", "read_header", "read_tensor", "weights_of"]

INDEX: Final = "model.safetensors.index.json"

_MAX_HEADER: Final = 100_000_000  # bytes, as in the safetensors library
#: Of the marks before values: a tensor has eleven. Python's objects for more would take gigabytes.
_MAX_VALUES: Final = 1 << 21
_MAX_DIMENSIONS: Final = 64
_LENGTH: Final = struct.Struct("<Q")
_BITS: Final[Mapping[str, int]] = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}
_READABLE: Final[Mapping[str, str]] = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        name: its name in the file.
        dtype: number format as safetensors writes it, for example ``"BF16"``, ``"F16"``, ``"F32"``, ``"F8_E4M3"``.
        shape: elements along each dimension, the one that is contiguous in memory last; empty for a single number.
        offset: bytes from the beginning of the file.
        nbytes: length in bytes.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def check_weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that hold the folder's weights, sorted, without looking into them.

    Raises:
        ModelLoadError: there are none, one that the index names is missing, or the folder cannot be read.
    """
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_file()]
    except OSError as error:
        raise ModelLoadError(
            f"{folder}: cannot be read: {error.strerror or error}.", hint="Check the folder's permissions."
        ) from error
    return tuple(folder / name for name in choose_weights(str(folder), names, Fields.read(folder / INDEX)))


def choose_weights(where: str, names: Collection[str], index: Fields | None) -> list[str]:
    """The files that hold the weights among those of a folder or repository, sorted.

    LMDeploy's choice: the files that the index names, else ``model*.safetensors``, else any ``*.safetensors``; the
    last only where there are no weights in PyTorch's format, which it would prefer.

    Args:
        where: the folder or repository, for errors.
        names: its files.
        index: its ``model.safetensors.index.json``, if it has one.

    Raises:
        ModelLoadError: there are no such files, or one that the index names is missing.
    """
    if index is not None:
        files = sorted(set(_shards(index).values()))
        if missing := [name for name in files if name not in names]:
            raise ModelLoadError(
                f"{where}: {len(missing)} of the {len(files)} files that {INDEX} names are missing: {missing[0]}"
                f"{' and others' if len(missing) > 1 else ''}.",
                hint="Fetch or copy all of them.",
            )
        return files
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if chosen := [name for name in found if name.startswith("model")]:
        return chosen
    pickled = sorted(name for name in names if name.endswith((".bin", ".pth", ".pt")))
    if found and not any(name.startswith("pytorch_model") for name in pickled):
        return found
    if pickled:
        raise ModelLoadError(
            f"{where}: its weights, {pickled[-1]}, are in PyTorch's format, which can run code when it is read.",
            hint="Convert them: load the model with Transformers and call save_pretrained, which writes .safetensors.",
        )
    raise ModelLoadError(
        f"{where}: has no weights, that is, no model.safetensors.",
        hint="Name a model in Hugging Face's form, with config.json and .safetensors files.",
    )


def weights_of(folder: Path) -> dict[str, TensorPlace]:
    """All tensors of the folder's weights by name.

    Raises:
        ModelLoadError: a file is missing or damaged, or lacks a tensor that the index says it has.
    """
    headers = {file.name: read_header(file) for file in check_weight_files(folder)}
    index = Fields.read(folder / INDEX)
    if index is None:
        return {name: place for header in headers.values() for name, place in header.items()}
    named = _shards(index)
    for name, file in named.items():
        if name not in headers[file]:
            raise ModelLoadError(
                f"{folder / file}: has no tensor {name!r}, though {INDEX} says so.",
                hint="The files are of different versions of the model: fetch or copy all of them again.",
            )
    return {name: headers[file][name] for name, file in named.items()}


def read_header(file: Path) -> dict[str, TensorPlace]:
    """The tensors that a safetensors file announces, by name, in the order of the header.

    Only the header is read. The size of a tensor whose number format is not known here is not checked.

    Raises:
        ModelLoadError: the file cannot be read, ends too early, is too long, or contradicts itself.
    """
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(0)
            head = opened.read(_LENGTH.size)
            length: int = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else size
            if length > min(_MAX_HEADER, size - _LENGTH.size):
                raise _damaged(file, f"its header cannot be {length} bytes long" if head else "it is empty")
            raw = opened.read(length)
    except OSError as error:
        raise ModelLoadError(
            f"{file}: cannot be read: {error.strerror or error}.", hint="Check the file's permissions and its disk."
        ) from error
    data = _LENGTH.size + length
    places = [_place(file, name, entry, data) for name, entry in _entries(file, raw) if name != "__metadata__"]
    end = data
    for place in sorted(places, key=lambda place: (place.offset, place.nbytes)):
        if place.offset != end:
            what = "overlaps another" if place.offset < end else "does not follow on another"
            raise _damaged(file, f"tensor {place.name!r} {what}")
        end += place.nbytes
    if end != size:
        raise _damaged(file, f"its tensors end at byte {end}, but the file at byte {size}")
    return {place.name: place for place in places}


def read_tensor(place: TensorPlace) -> np.memmap[Any, Any]:
    """A tensor's numbers as they are in its file, mapped into memory and read-only.

    The file must not be cut short while the array is in use: that ends the process.

    Args:
        place: a tensor in BF16, F16 or F32.

    Returns:
        an array of the tensor's shape, little-endian: float16 for F16, float32 for F32, and the bits as uint16 for
        BF16, which NumPy does not have.

    Raises:
        ModelLoadError: the tensor is of another number format, or the file cannot be read or is too short.
    """
    import numpy as np

    if place.dtype not in _READABLE:
        raise ModelLoadError(
            f"{place.file}: tensor {place.name!r} is of the format {place.dtype}.", hint="BF16, F16 and F32 are read."
        )
    try:
        return np.memmap(place.file, _READABLE[place.dtype], "r", place.offset, place.shape)
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"{place.file}: tensor {place.name!r} cannot be read: {error}.", hint="Check the file and its disk."
        ) from error


def _shards(index: Fields) -> dict[str, str]:
    """The file of each tensor, as an index file says."""
    named = index.part("weight_map")
    if named is None or not named.values:
        raise index.wrong("weight_map", "an object that names each tensor's file")
    for tensor, file in named.values.items():
        # A name with a folder in it could lead anywhere.
        if not isinstance(file, str) or not file.endswith(".safetensors") or {"/", "\\", ":", "\0"} & set(file):
            raise named.wrong(tensor, "the name of a .safetensors file in the same folder")
    return dict(named.values)


def _entries(file: Path, raw: bytes) -> list[tuple[str, Any]]:
    """The names in the header with what it says of each."""
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice.extend(name for name, _ in pairs)
        return values

    if sum(map(raw.count, (b"{", b"[", b","))) > _MAX_VALUES:
        raise _damaged(file, f"its header has more than {_MAX_VALUES} values")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its header is no sound JSON: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(file, "its header is no JSON object")
    if twice:
        name = next(name for name in twice if twice.count(name) > 1)
        raise _damaged(file, f"its header gives {name!r} twice")
    return list(header.items())


def _place(file: Path, name: str, entry: Any, data: int) -> TensorPlace:
    """The tensor of a header's entry; ``data`` is the file's byte at which the tensors begin."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]} if len(entry) == 3:
            pass
        case _:
            raise _damaged(file, f"its header says of tensor {name!r} something else than format, shape and place")
    if isinstance(first, bool) or isinstance(last, bool) or not 0 <= first <= last:
        raise _damaged(file, f"tensor {name!r} goes from byte {first} to byte {last}")
    if len(shape) > _MAX_DIMENSIONS or not all(type(side) is int and 0 <= side < 1 << 63 for side in shape):
        raise _damaged(file, f"tensor {name!r} has an impossible shape")
    if dtype in _BITS and math.prod(shape) * _BITS[dtype] != (last - first) * 8:
        raise _damaged(file, f"tensor {name!r} of shape {shape} in {dtype} does not take {last - first} bytes")
    return TensorPlace(file, name, dtype, tuple(shape), data + first, last - first)


def _damaged(file: Path, what: str) -> ModelLoadError:
    return ModelLoadError(f"{file}: not a usable safetensors file: {what}.", hint="Fetch or copy the file again.")
