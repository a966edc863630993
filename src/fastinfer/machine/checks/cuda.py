"""CUDA's versions: what an engine was built with against what the driver knows."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fastinfer.machine.checks.check import Check

__all__ = ["DRIVER_REMEDY", "against_driver", "loaded_runtime", "spoken"]

#: Installs NVIDIA's driver, or a newer one, on Ubuntu.
DRIVER_REMEDY: Final = "sudo ubuntu-drivers install"
_ELSEWHERE: Final = "The command is for Ubuntu; in a container the driver is the host's."
_RUNTIME: Final = re.compile(r"\S*/libcudart[^/\s]*\.so[^/\s]*")


def spoken(version: int) -> str:
    """CUDA's number for a version, 1000 times the major and 10 times the minor one, for people: 12080 is ``"12.8"``."""
    return f"{version // 1000}.{version % 1000 // 10}"


def loaded_runtime(maps: Path = Path("/proc/self/maps")) -> int | None:
    """The newest run-time library of CUDA that is loaded into this process, by CUDA's number.

    Args:
        maps: the kernel's list of what a process has loaded.

    Returns:
        The number, or None where none is loaded, it is part of an engine's own library, or the system does not tell.
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in set(_RUNTIME.findall(maps.read_text("utf-8", "replace"))):
            version = ctypes.c_int(0)
            with contextlib.suppress(OSError, AttributeError):
                if ctypes.CDLL(path).cudaRuntimeGetVersion(ctypes.byref(version)) == 0:
                    found.append(version.value)
    return max(found, default=None)


def against_driver(engine: str, runtime: int | None, driver: int | None) -> Iterator[Check]:
    """A row on whether the driver can run what an engine was built with; none where either version is not known.

    A driver runs programs of older versions of CUDA, and of newer ones with the same major version except for kernels
    that are compiled only when they are first used (NVIDIA's "CUDA Compatibility").

    Args:
        engine: its name.
        runtime: version of CUDA's run-time library in it, by CUDA's number.
        driver: newest version that the driver knows.
    """
    if runtime is None or driver is None:
        return
    name, found = f"CUDA of {engine}", f"CUDA {spoken(runtime)}, the driver knows up to {spoken(driver)}"
    if runtime <= driver:
        yield Check("engines", name, "ok", found, "The driver runs what the engine was built with.")
    elif runtime // 1000 == driver // 1000:
        meaning = "Newer than the driver, within one major version: most works, but kernels compiled at run time fail."
        yield Check("engines", name, "warn", found, f"{meaning} {_ELSEWHERE}", DRIVER_REMEDY)
    else:
        meaning = "The driver is too old for what the engine was built with; nothing runs on the GPU."
        yield Check("engines", name, "fail", found, f"{meaning} {_ELSEWHERE}", DRIVER_REMEDY)
