"""NVIDIA's GPUs: the driver, what a process may use of them, who holds their memory, and how they are."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastinfer.engines.turbomind.gpus import DRIVER_LIBRARY, Gpu, dotted, gpus
from fastinfer.errors import EngineUnavailableError
from fastinfer.machine.checks.check import Check, size_of, text_in
from fastinfer.machine.checks.child import ask
from fastinfer.machine.checks.cuda import DRIVER_REMEDY, spoken
from fastinfer.machine.checks.nvml import GpuState, Holder, ManagementReading, read_management

__all__ = ["GpuReading", "built_in_gpus", "driver_release", "judge", "read", "take"]

_AREA: Final = "gpu"
_PATIENCE: Final = 20.0  # seconds; without persistence mode the driver starts each GPU anew
_HIDING: Final = "CUDA_VISIBLE_DEVICES"
_NVIDIA: Final = "0x10de"
_DISPLAYS: Final = ("0x0300", "0x0302")  # PCI classes of graphics cards and of those without an output
_LITTLE: Final = 0.5  # share of a GPU's memory


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What the driver said.

    Attributes:
        problem: why no GPU may be used, or empty.
        advice: what to do about that, in words.
        answered: it said something; else its process crashed, or hung.
        driver: newest version of CUDA that the driver knows, by CUDA's number; None where there is no driver.
        visible: the GPUs that this process may use.
        management: what NVIDIA's management library told.
    """

    problem: str = ""
    advice: str = ""
    answered: bool = True
    driver: int | None = None
    visible: Sequence[Gpu] = ()
    management: ManagementReading = field(default_factory=ManagementReading)


def take(seconds: float = _PATIENCE) -> GpuReading:
    """Read in a process of its own: a driver in trouble hangs, and one that is started keeps a process from forking.

    Args:
        seconds: how long it may take.
    """
    try:
        data = ask(__name__, seconds)
    except EngineUnavailableError as error:
        return GpuReading(problem=f"The NVIDIA driver cannot be asked: {error}.", answered=False)
    return _from_json(data)


def read() -> GpuReading:
    """Ask the driver, in this process."""
    management = read_management()
    try:
        library: Any = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        driver = None
    else:
        version = ctypes.c_int(0)
        driver = version.value if library.cuDriverGetVersion(ctypes.byref(version)) == 0 else None
    try:
        return GpuReading(driver=driver, visible=gpus(), management=management)
    except EngineUnavailableError as error:
        return GpuReading(error.message, error.hint or "", driver=driver, management=management)


def built_in_gpus(root: Path) -> int:
    """How many NVIDIA GPUs the machine has, whether or not they may be used: from the driver's list, or the PCI bus's.

    Args:
        root: folder that holds ``proc`` and ``sys``; ``/`` for this machine.
    """
    listed = root / "proc/driver/nvidia/gpus"
    known = sum(1 for _ in listed.iterdir()) if listed.is_dir() else 0
    on_bus = sum(
        text_in(device / "vendor") == _NVIDIA and str(text_in(device / "class")).startswith(_DISPLAYS)
        for device in (root / "sys/bus/pci/devices").glob("*")
    )
    return max(known, on_bus)


def driver_release(root: Path) -> str:
    """The release of the kernel's NVIDIA driver, ``"570.86.15"`` for example; empty where there is none.

    Args:
        root: folder that holds ``proc``; ``/`` for this machine.
    """
    match = re.search(r"\s(\d{3,}\.[\d.]+)\s", f"{text_in(root / 'proc/driver/nvidia/version')} ")
    return match[1] if match else ""


def judge(reading: GpuReading, *, built_in: int, release: str, environment: Mapping[str, str]) -> Iterator[Check]:
    """The rows on GPUs.

    Args:
        reading: what the driver said.
        built_in: NVIDIA GPUs in the machine, 0 where none was found.
        release: the driver's release, or empty where it is not known.
        environment: as ``os.environ``.
    """
    if not reading.visible:
        yield _none_visible(reading, built_in, environment)
        return
    known = reading.management.release or release or "of unknown release"
    newest = "" if reading.driver is None else f", knows CUDA up to {spoken(reading.driver)}"
    yield Check(_AREA, "NVIDIA driver", "ok", f"driver {known}{newest}", "It starts, and shows GPUs.")
    yield _visible(reading.visible, built_in, environment)
    if reading.management.problem:
        meaning = f"{reading.management.problem}, so free memory and who holds it, persistence mode and errors could "
        meaning += "not be seen. nvidia-smi shows them."
        remedy = "nvidia-smi" if reading.management.installed else "pip install 'fastinfer[gpu]'"
        yield Check(_AREA, "GPU state", "warn", "not seen", meaning, remedy)
        return
    states = reading.management.states
    yield _memory(states)
    yield _persistence(states)
    yield _health(states)


def _none_visible(reading: GpuReading, built_in: int, environment: Mapping[str, str]) -> Check:
    name = "NVIDIA driver"
    if not reading.answered:
        meaning = f"{reading.problem} A driver that hangs or crashes is often mended by a restart of the machine."
        return Check(_AREA, name, "fail", "does not answer", meaning, "nvidia-smi")
    if not built_in and reading.driver is None:
        meaning = "The embedded presets run on the CPU; the others need a GPU."
        return Check(_AREA, name, "ok", "no NVIDIA GPU", meaning)
    counted = f"{built_in or 'an unknown number of'} NVIDIA GPU{'' if built_in == 1 else 's'}, none to be used"
    if (value := environment.get(_HIDING)) is not None:
        meaning = f"{_HIDING} is {value!r}, which hides them from every program. {reading.problem}"
        return Check(_AREA, name, "warn", counted, meaning, f"unset {_HIDING}")
    if not built_in:
        return Check(_AREA, name, "ok", "a driver, but no NVIDIA GPU", "The embedded presets run on the CPU.")
    if reading.driver is None:
        meaning = (
            f"{reading.problem} The command is for Ubuntu; a container needs the host's driver and its GPUs passed "
        )
        meaning += "on (docker run --gpus all)."
        return Check(_AREA, name, "warn", counted, meaning, DRIVER_REMEDY)
    return Check(_AREA, name, "fail", counted, f"{reading.problem} {reading.advice}".strip(), "nvidia-smi")


def _visible(visible: Sequence[Gpu], built_in: int, environment: Mapping[str, str]) -> Check:
    name = "GPUs to use"
    found = ", ".join(
        f"{gpu.index}: {gpu.name}, {size_of(gpu.memory)}, compute capability {dotted(gpu.capability)}"
        for gpu in visible
    )
    value = environment.get(_HIDING)
    asked = 0 if value is None else len([part for part in value.split(",") if part.strip()])
    if asked > len(visible):
        meaning = f"{_HIDING} is {value!r}, and from the first that does not exist on the rest is left out."
        return Check(_AREA, name, "warn", found, meaning, f"unset {_HIDING}")
    if built_in > len(visible):
        why = f"{_HIDING} is {value!r}" if value is not None else "the rest is not passed on to this system"
        return Check(_AREA, name, "ok", found, f"{len(visible)} of the machine's {built_in}: {why}.")
    return Check(_AREA, name, "ok", found, "All that the machine has.")


def _memory(states: Sequence[GpuState]) -> Check:
    name = "GPU memory"
    found = "; ".join(map(_memory_of, states))
    short = [state for state in states if _share_free(state) < _LITTLE]
    if not short:
        return Check(_AREA, name, "ok", found, "Presets take their share of what is free when a model is loaded.")
    meaning = (
        f"GPU {', '.join(str(state.index) for state in short)} has less than half of its memory free, and presets "
    )
    meaning += "take their share of what is free. End what holds it, or use another GPU."
    free = [str(state.index) for state in states if state not in short]
    # The numbers are nvidia-smi's, so CUDA has to count in the same order.
    other = f"export CUDA_DEVICE_ORDER=PCI_BUS_ID {_HIDING}={','.join(free)}"
    return Check(_AREA, name, "warn", found, meaning, other if free else "nvidia-smi")


def _memory_of(state: GpuState) -> str:
    if state.free is None or state.total is None:
        return f"GPU {state.index}: not told"
    said = f"GPU {state.index}: {size_of(state.free)} of {size_of(state.total)} free"
    if state.holders:
        said += f", held by {', '.join(map(_holder, state.holders))}"
    return said


def _holder(holder: Holder) -> str:
    held = "" if holder.memory is None else f" {size_of(holder.memory)}"
    return f"{holder.name or 'a process that may not be seen'} (pid {holder.pid}){held}"


def _share_free(state: GpuState) -> float:
    return state.free / state.total if state.free is not None and state.total else 1.0


def _persistence(states: Sequence[GpuState]) -> Check:
    name = "persistence mode"
    if off := [str(state.index) for state in states if state.persistent is False]:
        meaning = "The driver lets go of a GPU that nobody uses, and takes seconds to start it for the next process."
        return Check(_AREA, name, "warn", f"off for GPU {', '.join(off)}", meaning, "sudo nvidia-smi -pm 1")
    if any(state.persistent for state in states):
        return Check(_AREA, name, "ok", "on", "The driver keeps the GPUs ready.")
    return Check(_AREA, name, "ok", "not told", "This system has no such mode, or does not tell.")


def _health(states: Sequence[GpuState]) -> Check:
    name = "GPU health"
    faults = [f"GPU {s.index}: {s.memory_errors} memory errors not corrected" for s in states if s.memory_errors]
    faults += [f"GPU {state.index}: {' and '.join(state.slowed)}" for state in states if state.slowed]
    if not faults:
        return Check(_AREA, name, "ok", "no memory errors, not slowed down", "As it should be.")
    meaning = "Memory errors make results wrong or end processes; a GPU that is too hot or short of power runs slower."
    return Check(_AREA, name, "warn", "; ".join(faults), meaning, "nvidia-smi -q -d ECC,PERFORMANCE,TEMPERATURE,POWER")


def _from_json(data: Mapping[str, Any]) -> GpuReading:
    visible = tuple(Gpu(**{**gpu, "capability": tuple(gpu["capability"])}) for gpu in data["visible"])
    told = data["management"]
    states = tuple(
        GpuState(**{**state, "holders": tuple(Holder(**holder) for holder in state["holders"])})
        for state in told["states"]
    )
    return GpuReading(**{**data, "visible": visible, "management": ManagementReading(**{**told, "states": states})})
