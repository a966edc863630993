"""The disk: where models are kept, whether more fit, and whether they can be mapped into memory."""

from __future__ import annotations

import mmap
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelLoadError
from fastinfer.machine.checks.check import Check, size_of
from fastinfer.models.embedded_chat import cache_folder

__all__ = ["DEFAULT_MODELS", "DiskReading", "judge", "own_cache", "read"]

#: The models of the built-in presets that are not in a package, and bytes that their files take, rounded up: 7.94
#: billion weights of 16 bits with a tokenizer, and 36.2 billion of 5.7 bits on average.
DEFAULT_MODELS: Final[Mapping[str, int]] = {
    "OpenGVLab/InternVL3-8B-hf": 16_000_000_000,
    "unsloth/Seed-OSS-36B-Instruct-GGUF": 26_000_000_000,
}

_AREA: Final = "disk"
_WHOLE: Final = 0.95  # share of a size, which is rounded up, that counts as all of it
_EMBEDDED_CHAT: Final = 240_000_000  # bytes that fastinfer's own cache may come to hold


@dataclass(frozen=True, slots=True)
class DiskReading:
    """A folder for models.

    Attributes:
        folder: the folder.
        exists: it is there; else the rest is about the nearest folder above it that is.
        problem: why nothing can be written there, or empty.
        unmapped: why a file there cannot be mapped into memory, or empty.
        free: bytes that may be written there; None where the system does not tell.
        present: bytes of each default model's repository that are there.
    """

    folder: Path
    exists: bool
    problem: str
    unmapped: str
    free: int | None
    present: Mapping[str, int]


def own_cache() -> Path | None:
    """fastinfer's own cache; None for an account without a home folder."""
    try:
        return cache_folder(sys.platform, os.environ)
    except ModelLoadError:
        return None


def read(folder: Path) -> DiskReading:
    """Try a folder: a file without a name is written there, mapped, and gone when this returns.

    Args:
        folder: where models are kept; it is not made where it does not exist.
    """
    place = next((each for each in (folder, *folder.parents) if _is_folder(each)), Path(folder.anchor))
    problem, unmapped = "", ""
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"fastinfer")
            file.flush()
            unmapped = _why_unmapped(file.fileno())
    except OSError as error:
        problem = error.strerror or str(error)
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = None
    present = {name: _bytes_below(folder / f"models--{name.replace('/', '--')}" / "blobs") for name in DEFAULT_MODELS}
    return DiskReading(folder, place == folder, problem, unmapped, free, present)


def judge(models: DiskReading, own: DiskReading | None, *, gpus: int) -> Iterator[Check]:
    """The rows on the disk.

    Args:
        models: Hugging Face's cache.
        own: fastinfer's own cache, None where there can be none.
        gpus: the NVIDIA GPUs that may be used; the default models of the presets that need one count only then.
    """
    yield _folder("model cache", models, "HF_HOME")
    yield _space(models, gpus)
    yield _mapping(models)
    if own is None:
        meaning = "The account has no home folder, so the embedded chat model has no place."
        yield Check(_AREA, "fastinfer's cache", "warn", "none", meaning, 'export FASTINFER_CACHE="$PWD/models"')
    else:
        yield _folder("fastinfer's cache", own, "FASTINFER_CACHE")


def _folder(name: str, reading: DiskReading, variable: str) -> Check:
    found = f"{reading.folder}" + ("" if reading.exists else ", made when it is needed")
    if reading.problem:
        meaning = (
            f"Nothing can be written there ({reading.problem}); models that it has can be used, others not fetched."
        )
        return Check(_AREA, name, "warn", found, meaning, f'export {variable}="$PWD/models"')
    if variable == "FASTINFER_CACHE" and reading.free is not None and reading.free < _EMBEDDED_CHAT:
        meaning = (
            f"The embedded chat model takes {size_of(_EMBEDDED_CHAT)} there, and {size_of(reading.free)} are free."
        )
        return Check(_AREA, name, "warn", found, meaning, f'export {variable}="$PWD/models"')
    return Check(_AREA, name, "ok", found, f"Can be written; {variable} names another place.")


def _space(reading: DiskReading, gpus: int) -> Check:
    name = "space for models"
    if reading.free is None:
        return Check(_AREA, name, "ok", "not told", "This system does not tell.")
    missing = {
        model: size - reading.present[model]
        for model, size in DEFAULT_MODELS.items()
        if reading.present[model] < _WHOLE * size
    }
    needed = sum(missing.values())
    found = f"{size_of(reading.free)} free"
    if not missing:
        return Check(_AREA, name, "ok", found, "The default models of all presets are there.")
    said = ", ".join(f"{model} {size_of(size)}" for model, size in missing.items())
    if reading.free >= needed:
        return Check(_AREA, name, "ok", found, f"Enough for the default models still to be fetched: {said}.")
    if not gpus:
        meaning = f"The embedded models need none of it. On a machine with a GPU the default models would: {said}."
        return Check(_AREA, name, "ok", found, meaning)
    meaning = (
        f"Not enough for all default models still to be fetched: {said}. Remove what is not used, or move the cache."
    )
    return Check(_AREA, name, "warn", found, meaning, f"du -sh {shlex.quote(str(reading.folder))}/* | sort -h")


def _mapping(reading: DiskReading) -> Check:
    name = "memory mapping"
    if reading.problem:
        return Check(_AREA, name, "ok", "not tried", "A file to try it with cannot be written there.")
    if reading.unmapped:
        meaning = (
            f"A model there is read into memory as a whole, which takes longer and more of it: {reading.unmapped}."
        )
        return Check(_AREA, name, "warn", "does not work", meaning, 'export HF_HOME="$PWD/models"')
    meaning = "Weights are read from the disk as they are needed, and shared between processes."
    return Check(_AREA, name, "ok", "works", meaning)


def _why_unmapped(descriptor: int) -> str:
    try:
        mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _bytes_below(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
