"""What is read five times a second while something runs: memory of this process and of the first GPU, and its power."""

from __future__ import annotations

import functools
import statistics
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_MB = 2**20


class Watch:
    """Reads figures between ``with`` and its end, at both of them too.

    Args:
        read: gives the figures of a moment by name, always the same names.

    Attributes:
        samples: what it gave, in order.
    """

    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self.samples: list[dict[str, float]] = []
        self._read = read
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        self.samples.append(self._read())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.samples.append(self._read())

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            self.samples.append(self._read())


def memory() -> dict[str, float]:
    """MB that are resident of this process, 0 where Linux is not, and in use on the first GPU, where there is one."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    resident = next((line for line in lines if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    found = {"resident_mb": round(int(resident.split()[1]) / 1024, 1)}
    if gpu := _first_gpu():
        found["gpu_mb"] = round(gpu.nvml.nvmlDeviceGetMemoryInfo(gpu.handle).used / _MB, 1)
    return found


def power() -> dict[str, float]:
    """What the first GPU draws and may draw, in watts; nothing without one."""
    gpu = _first_gpu()
    if gpu is None:
        return {}
    return {
        "gpu_watts": gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000,
        "gpu_watts_limit": gpu.nvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle) / 1000,
    }


def extent(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of every figure: at the beginning, at most, at the end."""
    found = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        found |= {f"{name}_begin": values[0], f"{name}_most": max(values), f"{name}_end": values[-1]}
    return found


def medians(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of every figure: the median."""
    return {name: round(statistics.median(sample[name] for sample in samples), 1) for name in samples[0]}


class _Gpu:
    def __init__(self, nvml: Any) -> None:
        self.nvml, self.handle = nvml, nvml.nvmlDeviceGetHandleByIndex(0)


@functools.cache
def _first_gpu() -> _Gpu | None:
    """None without a GPU or without nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return _Gpu(pynvml)
    except pynvml.NVMLError:
        return None
