"""What only NVIDIA's management library tells of GPUs: who holds their memory, and how they are."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, TypeVar

__all__ = ["GpuState", "Holder", "ManagementReading", "read_management"]

_Value = TypeVar("_Value")

#: Why a GPU may run slower than it could (nvml.h, nvmlClocksEventReasons).
_SLOWED: Final = {
    0x08: "slowed down by its hardware",
    0x20: "too hot (software limit)",
    0x40: "too hot (hardware limit)",
    0x80: "short of power",
}


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        pid: its number, as the driver sees it.
        name: its program, or empty where it may not be seen.
        memory: bytes, or None where the driver does not tell.
    """

    pid: int
    name: str
    memory: int | None


@dataclass(frozen=True, slots=True)
class GpuState:
    """A GPU's state.

    Attributes:
        index: its number in nvidia-smi, whatever CUDA_VISIBLE_DEVICES says.
        name: as the driver calls it.
        free: bytes of its memory that nobody holds; None where it does not tell.
        total: bytes of its memory; None where it does not tell.
        holders: who holds the rest, as far as it may be seen.
        persistent: persistence mode is on; None where there is no such mode.
        memory_errors: errors in its memory since the driver was started that could not be corrected; None where it
            does not count them.
        slowed: why it runs slower than it could; empty where it does not.
    """

    index: int
    name: str
    free: int | None
    total: int | None
    holders: Sequence[Holder] = ()
    persistent: bool | None = None
    memory_errors: int | None = None
    slowed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ManagementReading:
    """What the library told.

    Attributes:
        problem: why it told nothing, or empty.
        installed: nvidia-ml-py is there.
        release: the driver's release, ``"570.86.15"`` for example.
        states: every GPU of the machine.
    """

    problem: str = ""
    installed: bool = True
    release: str = ""
    states: Sequence[GpuState] = field(default=())


def read_management() -> ManagementReading:
    """Ask the management library through nvidia-ml-py, the extra ``gpu``."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return ManagementReading(problem="nvidia-ml-py is not installed", installed=False)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return ManagementReading(problem=f"NVIDIA's management library does not start: {error}")
    try:
        states = tuple(_state(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return ManagementReading(release=str(nvml.nvmlSystemGetDriverVersion()), states=states)
    except nvml.NVMLError as error:
        return ManagementReading(problem=f"NVIDIA's management library fails: {error}")
    finally:
        nvml.nvmlShutdown()


def _state(nvml: ModuleType, index: int) -> GpuState:
    def told(call: Callable[..., _Value], *arguments: Any) -> _Value | None:
        # Not every GPU and driver has everything, and not every account may see it.
        try:
            return call(*arguments)
        except nvml.NVMLError:
            return None

    def program(pid: int) -> str:
        name = told(nvml.nvmlSystemGetProcessName, pid)
        return "" if name is None else str(name).rpartition("/")[2]

    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory: Any = told(nvml.nvmlDeviceGetMemoryInfo, handle)
    persistent = told(nvml.nvmlDeviceGetPersistenceMode, handle)
    holders: list[Any] = told(nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    reasons: int = told(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0
    return GpuState(
        index=index,
        name=str(nvml.nvmlDeviceGetName(handle)),
        free=None if memory is None else int(memory.free),
        total=None if memory is None else int(memory.total),
        holders=tuple(Holder(each.pid, program(each.pid), each.usedGpuMemory) for each in holders),
        persistent=None if persistent is None else bool(persistent),
        memory_errors=told(
            nvml.nvmlDeviceGetTotalEccErrors, handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
        slowed=tuple(why for bit, why in _SLOWED.items() if reasons & bit),
    )
