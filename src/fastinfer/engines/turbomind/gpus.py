"""The NVIDIA GPUs of this machine, asked of the driver itself: no library of CUDA's run-time is loaded for it."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any, Final

from fastinfer.errors import EngineUnavailableError

__all__ = ["BFLOAT16", "DRIVER_LIBRARY", "OLDEST", "Gpu", "dotted", "gpus"]

#: Compute capability of the oldest GPUs that TurboMind 0.18 has kernels for (Volta), and of the first with bfloat16
#: (Ampere).
OLDEST: Final = (7, 0)
BFLOAT16: Final = (8, 0)

# cuda.h: CUdevice_attribute.
_MAJOR, _MINOR = 75, 76
_NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE
DRIVER_LIBRARY: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU.

    Attributes:
        index: its number, after CUDA_VISIBLE_DEVICES.
        name: as the driver calls it, for example ``"NVIDIA H200"``.
        memory: bytes it has in all.
        capability: compute capability, for example (9, 0).
    """

    index: int
    name: str
    memory: int
    capability: tuple[int, int]


def dotted(capability: tuple[int, int]) -> str:
    """A compute capability as people write it: ``"9.0"``."""
    return f"{capability[0]}.{capability[1]}"


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use, at least one.

    Raises:
        EngineUnavailableError: there is no driver, or it sees no GPU.
    """
    try:
        driver: Any = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError as error:
        raise EngineUnavailableError(
            f"There is no NVIDIA driver on this machine ({DRIVER_LIBRARY} cannot be loaded).",
            hint="TurboMind needs an NVIDIA GPU; the preset 'embedded' runs on any CPU.",
        ) from error
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in (0, _NO_DEVICE):
        raise EngineUnavailableError(
            f"The NVIDIA driver does not start: CUDA error {status}.",
            hint="See what nvidia-smi says; after an update of the driver the machine has to be restarted.",
        )
    if count.value == 0:
        raise EngineUnavailableError(
            "The NVIDIA driver sees no GPU.",
            hint="Check CUDA_VISIBLE_DEVICES and nvidia-smi; the preset 'embedded' runs on any CPU.",
        )
    return tuple(_describe(driver, index) for index in range(count.value))


def _describe(driver: Any, index: int) -> Gpu:
    name, memory, value = ctypes.create_string_buffer(256), ctypes.c_size_t(0), ctypes.c_int(0)
    driver.cuDeviceGetName(name, len(name), index)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
        capability.append(value.value)
    return Gpu(index, name.value.decode("utf-8", "replace"), memory.value, (capability[0], capability[1]))
