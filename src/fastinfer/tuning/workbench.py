"""Opens presets and measures them; keeps some open where the memory allows it, since loading takes its time."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.machine.memory import device_memory, host_memory
from fastinfer.measuring import Figures
from fastinfer.preset_library import Preset
from fastinfer.tuning.work import Work

if TYPE_CHECKING:
    from fastinfer.provenance import Provenance

__all__ = ["Workbench"]

#: Another engine may need more than the first, as the values change.
_SPARE: Final = 1.25
#: More than the best, two that are compared with it, and one to come back to are of little use.
_MOST_OPEN: Final = 4


class Workbench:
    """The engines of the presets that are compared. For one thread; a context manager that closes them.

    Args:
        work: what they do.
        alone: never two engines at once, because their memory is what counts. Otherwise up to four, as memory allows.
        clock: seconds.

    Attributes:
        provenance: of each preset that was opened, by its fingerprint.
        load_seconds: about how long it takes to open a preset, by the median of those that were; 0 before the first.
    """

    def __init__(self, work: Work, *, alone: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self.work = work
        self._clock = clock
        self.provenance: dict[str, Provenance] = {}
        self.load_seconds = 0.0
        self._alone = alone
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._loads: list[float] = []
        self._on_host = self._on_device = 0

    def measure(self, preset: Preset, amount: int) -> Figures:
        """Measure a preset, which is opened where it is not; what was used longest ago is closed for it.

        Args:
            preset: to be measured.
            amount: of the work, as a multiple of the least that says something.

        Raises:
            FastInferError: it cannot be opened, or does none of the work.
        """
        return self.work.measure(self._get(preset), amount)

    def seconds(self, preset: Preset, amount: int, known: Figures) -> float:
        """About how long that will take.

        Args:
            preset, amount: as for :meth:`measure`.
            known: figures of another preset.
        """
        load = 0.0 if preset.fingerprint in self._open else self.load_seconds
        return load + self.work.seconds(preset, amount, known)

    @property
    def holds_two(self) -> bool:
        """Whether two engines have room at once."""
        return not self._alone and (len(self._open) > 1 or self._has_room())

    def _has_room(self) -> bool:
        """Whether the memory holds another engine."""
        host = host_memory()
        if host is None or host.free < _SPARE * self._on_host:
            return False
        seen = (device_memory(engine.provenance.device) for engine in self._open.values())
        return all(device is None or device.free >= _SPARE * self._on_device for device in seen)

    def close(self) -> None:
        """Close what is open. Idempotent."""
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, preset: Preset) -> Any:
        key = preset.fingerprint
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        while self._open and (self._alone or len(self._open) >= _MOST_OPEN or not self._has_room()):
            self._open.popitem(last=False)[1].close()
        started = self._clock()
        try:
            engine = self._load(preset)
        except EngineOutOfMemoryError:
            if not self._open:
                raise
            self.close()
            engine = self._load(preset)
        self._open[key] = engine
        self.provenance[key] = engine.provenance
        self.work.prepare(engine)
        self._loads.append(self._clock() - started)
        self.load_seconds = statistics.median(self._loads)
        return engine

    def _load(self, preset: Preset) -> Any:
        before = host_memory()
        engine = self.work.open(preset)
        if not self._loads:
            after, device = host_memory(), device_memory(engine.provenance.device)
            # The weights may have been in the page cache, and on a GPU others' memory counts too: about, no more.
            self._on_host = 0 if before is None or after is None else max(0, before.free - after.free)
            self._on_device = 0 if device is None else device.total - device.free
        return engine
