"""The most memory that is held while something is measured."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from fastinfer.machine.memory import device_memory

__all__ = ["PeakMemory"]

#: Seconds between two looks; an engine's large allocations last as long as the engine.
_PERIOD: Final = 0.05
_PROC: Final = Path("/proc")


class PeakMemory:
    """Looks at the memory while its ``with`` block runs.

    Args:
        device: the device of a provenance, ``"CUDA0"`` or ``"cuda:0"`` for example; ``"CPU"`` for none.

    Attributes:
        process: the most bytes that this process held resident; None where the system does not tell.
        gpu: the most bytes in use on the device, other programs' included; None where that is not to be seen.
    """

    def __init__(self, device: str) -> None:
        self.process: int | None = None
        self.gpu: int | None = None
        self._device = device
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fastinfer-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        device = device_memory(self._device)
        self.process = _higher(self.process, _resident())
        self.gpu = _higher(self.gpu, None if device is None else device.total - device.free)


def _resident() -> int | None:
    try:
        pages = (_PROC / "self/statm").read_text("ascii").split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _higher(before: int | None, now: int | None) -> int | None:
    return before if now is None else max(before or 0, now)
