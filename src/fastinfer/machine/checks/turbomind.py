"""LMDeploy's TurboMind: is it installed where it could run, can it be imported, and for which CUDA was it built."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from fastinfer.engines.turbomind.gpus import OLDEST, Gpu, dotted
from fastinfer.engines.turbomind.importing import import_lmdeploy
from fastinfer.errors import EngineUnavailableError
from fastinfer.machine.checks.check import Check
from fastinfer.machine.checks.child import ask
from fastinfer.machine.checks.cuda import against_driver, loaded_runtime

__all__ = ["TurbomindReading", "built_for", "judge", "read", "take"]

_AREA: Final = "engines"
_INSTALL: Final = "pip install 'fastinfer[turbomind]'"
_PATIENCE: Final = 90.0  # seconds; torch, transformers and 360 MB of kernels may come from a slow disk
_RUNTIME: Final = re.compile(rb"libcudart\.so\.(\d+)")


@dataclass(frozen=True, slots=True)
class TurbomindReading:
    """What importing TurboMind showed.

    Attributes:
        problem: why it cannot be imported, or empty.
        advice: what to do about that, in words.
        torch: torch's version.
        torch_cuda: the version of CUDA that torch was built with, or None for a torch without CUDA.
        runtime: the newest CUDA run-time library that was loaded, by CUDA's number, or None.
    """

    problem: str = ""
    advice: str = ""
    torch: str = ""
    torch_cuda: str | None = None
    runtime: int | None = None


def take(seconds: float = _PATIENCE) -> TurbomindReading:
    """Read in a process of its own: the import takes seconds, changes settings of the process and may end it.

    Args:
        seconds: how long it may take.
    """
    try:
        return TurbomindReading(**ask(__name__, seconds))
    except EngineUnavailableError as error:
        return TurbomindReading(problem=f"LMDeploy cannot be tried: {error}.")


def read() -> TurbomindReading:
    """Import LMDeploy with its engine into this process, and see what was loaded with it."""
    try:
        import_lmdeploy()
        engine = importlib.import_module("lmdeploy.turbomind")
        # The package swallows what its compiled part raises.
        if (error := getattr(engine, "_import_error", None)) is not None:
            return TurbomindReading(problem=f"TurboMind's library cannot be loaded: {error}.")
        torch = importlib.import_module("torch")
    except EngineUnavailableError as error:
        return TurbomindReading(problem=error.message, advice=error.hint or "")
    except (ImportError, OSError, RuntimeError) as error:
        return TurbomindReading(problem=f"TurboMind cannot be imported: {error}.")
    return TurbomindReading(torch=str(torch.__version__), torch_cuda=torch.version.cuda, runtime=loaded_runtime())


def built_for() -> int | None:
    """The major version of CUDA whose run-time library the installed TurboMind asks for, without importing it.

    Returns:
        The version, or None where LMDeploy is not installed or is a build without TurboMind.
    """
    package = importlib.util.find_spec("lmdeploy")  # finds, and executes nothing
    for folder in (package.submodule_search_locations if package else None) or ():
        for library in sorted(Path(folder, "turbomind").glob("_turbomind*.so")):
            with (
                contextlib.suppress(OSError, ValueError),  # ValueError: the file is empty
                library.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            ):
                if match := _RUNTIME.search(content):
                    return int(match[1])
    return None


def judge(
    version: str | None,
    reading: TurbomindReading | None,
    *,
    gpus: Sequence[Gpu],
    driver: int | None,
    cuda: int | None,
    wanted: str,
) -> Iterator[Check]:
    """The rows on TurboMind.

    Args:
        version: of LMDeploy; None where it is not installed.
        reading: what its import showed; None where it was not tried.
        gpus: the NVIDIA GPUs that this process may use.
        driver: newest version of CUDA that the driver knows, by CUDA's number.
        cuda: major version of CUDA that TurboMind was built for, or None.
        wanted: LMDeploy with the versions that fastinfer works with, for pip.
    """
    name = "TurboMind"
    if version is None:
        if gpus:
            meaning = "There is an NVIDIA GPU; the classification preset 'prod' needs LMDeploy to use it."
            yield Check(_AREA, name, "warn", "LMDeploy is not installed", meaning, _INSTALL)
        else:
            meaning = "It needs an NVIDIA GPU, and there is none here that could be used."
            yield Check(_AREA, name, "ok", "not installed, not needed here", meaning)
        return
    found = f"LMDeploy {version}" + (f", built for CUDA {cuda}" if cuda else "")
    if not Requirement(wanted).specifier.contains(version, prereleases=True):
        meaning = "Its internals differ from one version to the next; fastinfer refuses this one."
        yield Check(_AREA, name, "fail" if gpus else "warn", found, meaning, f"pip install '{wanted}'")
        return
    if reading is None:
        yield Check(_AREA, name, "ok", found, "Not tried: there is no NVIDIA GPU that it could use.")
        return
    if reading.problem:
        meaning = f"{reading.problem} {reading.advice}".strip()
        yield Check(_AREA, name, "fail", found, meaning, _INSTALL)
        return
    found += f", torch {reading.torch}"
    if reading.torch_cuda is None:
        meaning = "This torch was built without CUDA, and TurboMind takes its tensors on the GPU."
        yield Check(_AREA, name, "fail", found, meaning, f"pip uninstall --yes torch torchvision && {_INSTALL}")
        return
    yield Check(_AREA, name, "ok", f"{found} for CUDA {reading.torch_cuda}", "Can be imported, its kernels included.")
    yield from against_driver(name, reading.runtime, driver)
    yield _capability(gpus)


def _capability(gpus: Sequence[Gpu]) -> Check:
    name = "GPUs for TurboMind"
    found = ", ".join(f"{gpu.name} ({dotted(gpu.capability)})" for gpu in gpus)
    needed = f"compute capability {dotted(OLDEST)} or newer"
    if all(gpu.capability >= OLDEST for gpu in gpus):
        return Check(_AREA, name, "ok", found, f"All have {needed}, which TurboMind needs.")
    meaning = f"TurboMind needs {needed}; the presets of llama.cpp run on older GPUs."
    return Check(_AREA, name, "warn", found, meaning, "fastinfer presets --kind chat")
