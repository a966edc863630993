"""Resident memory of this process and memory in use on the first GPU, sampled while something runs."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType

_MB = 2**20


def resident_mb() -> float:
    """Resident memory of this process; 0 where Linux is not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next((line for line in status.read_text().splitlines() if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return int(line.split()[1]) / 1024


class Watch:
    """Samples memory five times a second between ``with`` and its end.

    Attributes:
        figures: resident and GPU memory, MB: at the beginning, at most, at the end. Without a GPU, or without
            nvidia-ml-py, there is none of the GPU.
    """

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._samples: list[dict[str, float]] = []
        self._gpu = _first_gpu()

    def __enter__(self) -> Watch:
        self._note()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._note()
        for name in self._samples[0]:
            values = [sample[name] for sample in self._samples]
            self.figures |= {f"{name}_begin": values[0], f"{name}_most": max(values), f"{name}_end": values[-1]}

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            self._note()

    def _note(self) -> None:
        sample = {"resident_mb": round(resident_mb(), 1)}
        if self._gpu is not None:
            import pynvml

            sample["gpu_mb"] = round(pynvml.nvmlDeviceGetMemoryInfo(self._gpu).used / _MB, 1)
        self._samples.append(sample)


def _first_gpu() -> object | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle: object = pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError:
        return None
    return handle
