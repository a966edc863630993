"""Memory: how much is to be had, and the system's settings that touch engines and their processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastinfer.machine.checks.check import Check, size_of, text_in
from fastinfer.machine.checks.limits import read_limits
from fastinfer.machine.memory import meminfo

__all__ = ["MemoryReading", "judge", "read"]

_AREA: Final = "memory"
_LITTLE: Final = 2**30  # bytes; the embedded models run in this, with their processes and a Python of their own
_FEW_FILES: Final = 1024
_SMALL_SHARED: Final = 2**30  # bytes; containers get 64 MiB unless told otherwise


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """Memory; what the system does not tell is None. All sizes are bytes.

    Attributes:
        total: of the machine.
        available: to be had without moving anything to disk, the container's limit counted in.
        limit: what a container may take.
        swap: (size, still free) of the space on disk for memory.
        huge_pages: the kernel's setting for transparent huge pages, ``"madvise"`` for example.
        shared: size of the memory that processes share as files (/dev/shm).
        files: how many files a process may hold open; -1 without a limit.
        locked: how much memory a process may keep from being moved to disk; -1 without a limit.
    """

    total: int | None = None
    available: int | None = None
    limit: int | None = None
    swap: tuple[int, int] | None = None
    huge_pages: str | None = None
    shared: int | None = None
    files: int | None = None
    locked: int | None = None


def read(root: Path) -> MemoryReading:
    """Read about memory.

    Args:
        root: folder that holds ``proc``, ``sys`` and ``dev``; ``/`` for this machine.
    """
    sizes = meminfo(root)
    limits = read_limits(root)
    available = [size for size in (sizes.get("MemAvailable"), limits.available) if size is not None]
    setting = re.search(r"\[(\w+)\]", text_in(root / "sys/kernel/mm/transparent_hugepage/enabled") or "")
    return MemoryReading(
        total=sizes.get("MemTotal"),
        available=min(available, default=None),
        limit=limits.memory,
        swap=(sizes["SwapTotal"], sizes["SwapFree"]) if {"SwapTotal", "SwapFree"} <= set(sizes) else None,
        huge_pages=None if setting is None else setting[1],
        shared=_size(root / "dev/shm"),
        files=_process_limit("RLIMIT_NOFILE"),
        locked=_process_limit("RLIMIT_MEMLOCK"),
    )


def judge(reading: MemoryReading, *, gpus: int) -> Iterator[Check]:
    """The rows on memory.

    Args:
        reading: what was read.
        gpus: the NVIDIA GPUs that may be used; only several of them exchange data through shared memory.
    """
    yield _available(reading)
    yield _swap(reading.swap)
    found = reading.huge_pages or "not told"
    yield Check(_AREA, "transparent huge pages", "ok", found, "Left as it is: the engines do not need another setting.")
    yield _shared(reading.shared, gpus)
    yield _open_files(reading.files)
    locked = "not told" if reading.locked is None else "no limit" if reading.locked < 0 else size_of(reading.locked)
    yield Check(
        _AREA, "locked memory", "ok", locked, "No preset locks memory: weights are mapped and stay in the cache."
    )


def _available(reading: MemoryReading) -> Check:
    name = "available memory"
    if reading.available is None:
        return Check(_AREA, name, "ok", "not told", "This system does not tell in a way that is read here.")
    found = size_of(reading.available) + ("" if reading.total is None else f" of {size_of(reading.total)}")
    if reading.limit is not None:
        found += f", limited to {size_of(reading.limit)}"
    if reading.available < _LITTLE:
        meaning = "Even the embedded models may run short: the system would end the process. End what takes the most."
        return Check(_AREA, name, "warn", found, meaning, "ps -eo pid,rss,comm --sort=-rss | head")
    return Check(_AREA, name, "ok", found, "Enough for the embedded models; others take about the size of their files.")


def _swap(swap: tuple[int, int] | None) -> Check:
    name = "swap"
    if swap is None or not swap[0]:
        return Check(
            _AREA, name, "ok", "none", "Nothing is moved to disk when memory runs short; processes end instead."
        )
    size, free = swap
    found = f"{size_of(size - free)} of {size_of(size)} taken"
    if free < size / 2:
        meaning = (
            "Memory has run short here: what is on disk comes back thousands of times slower. End what takes most."
        )
        return Check(_AREA, name, "warn", found, meaning, "ps -eo pid,rss,comm --sort=-rss | head")
    return Check(_AREA, name, "ok", found, "Most of it is free.")


def _shared(shared: int | None, gpus: int) -> Check:
    name = "shared memory"
    found = "not told" if shared is None else size_of(shared)
    if shared is not None and shared < _SMALL_SHARED and gpus > 1:
        meaning = "A model on several GPUs exchanges data through /dev/shm and fails when it is full. For a container: "
        meaning += "docker run --shm-size=8g."
        return Check(_AREA, name, "warn", found, meaning, "sudo mount -o remount,size=8g /dev/shm")
    return Check(_AREA, name, "ok", found, "Only a model on several GPUs uses it.")


def _open_files(files: int | None) -> Check:
    name = "open files"
    found = "not told" if files is None else "no limit" if files < 0 else f"{files} a process"
    if files is not None and 0 <= files < _FEW_FILES:
        meaning = "Decoding processes, streams and connections take files; a program with many of them may fail."
        return Check(_AREA, name, "warn", found, meaning, "ulimit -n 4096")
    return Check(_AREA, name, "ok", found, "Enough for the decoding processes' pipes.")


def _size(folder: Path) -> int | None:
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError):
        status = os.statvfs(folder)
        return status.f_frsize * status.f_blocks
    return None


def _process_limit(name: str) -> int | None:
    """A limit in force for this process (getrlimit); -1 without one, None where there is no such thing."""
    try:
        resource: Any = importlib.import_module("resource")
        limit: int = resource.getrlimit(getattr(resource, name))[0]
    except (ImportError, AttributeError):
        return None  # Windows
    return -1 if limit == resource.RLIM_INFINITY else limit
