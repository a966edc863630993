"""The two sides of a comparison: opened, warmed up and watched, together or one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from typing import Final

from fastinfer.classify import Classifier, classifier
from fastinfer.comparing.collection import Collection, Item
from fastinfer.comparing.sweep import Turn, alternate, through
from fastinfer.errors import EngineOutOfMemoryError, ImageDecodeError
from fastinfer.measuring.memory import PeakMemory
from fastinfer.preset_library import Preset, as_preset
from fastinfer.provenance import Provenance

__all__ = ["Contestant", "turns"]

#: Images that a classifier gets before time is taken, so that no first time of anything is in it.
_WARM_UP: Final = 8
#: Characters of a value that is shown in a preset's name; a prompt is longer.
_SHORT: Final = 24
#: Images in a turn: enough for an engine to fill its batches many times over, and of those in memory fewer.
_FILES, _IN_MEMORY = 256, 64


class Contestant:
    """A preset to open, or a classifier that is open.

    Args:
        given: a preset, its name, or a classifier.
        model: the model to open a preset with; None takes the preset's own.
        strict: as for :func:`fastinfer.classifier`.

    Attributes:
        preset: what is compared.
        provenance: what ran; None before it ran.
        memory, gpu_memory: bytes that opening it and its first images took; None where that was not seen.

    Raises:
        PresetError: there is no such preset of kind "classify".
    """

    def __init__(self, given: str | Preset | Classifier, model: str | os.PathLike[str] | None, strict: bool) -> None:
        self._given = given if isinstance(given, Classifier) else None
        if isinstance(given, Classifier):
            self.preset = given.preset
        else:
            self.preset = as_preset(given, "classify")
        self._model, self._strict = model, strict
        self.provenance: Provenance | None = None
        self.memory: int | None = None
        self.gpu_memory: int | None = None

    @property
    def name(self) -> str:
        """The preset's name with the fields that were changed, and their values where they are short."""
        changed = []
        for field in self.preset.replaced:
            value = str(getattr(self.preset.parameters, field))
            changed.append(f"{field} {value}" if len(value) <= _SHORT else field)
        return f"{self.preset.name} ({', '.join(changed)})" if changed else self.preset.name

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels of an open classifier; None for a preset."""
        return None if self._given is None else self._given.labels

    @contextmanager
    def opened(self, first: list[Item], labels: tuple[str, ...] | None) -> Iterator[Classifier]:
        """The classifier, warmed up with a few images and watched; one that was given open stays open.

        Raises:
            FastInferError: as :func:`fastinfer.classifier`.
        """
        if self._given is not None:
            self.provenance = self._given.provenance
            through(self._given, first, labels)
            yield self._given
            return
        before = _look("CPU").process
        with classifier(self.preset, labels=labels, model=self._model, strict=self._strict) as running:
            self.provenance = running.provenance
            through(running, first, labels)
            self.memory = _less(_look("CPU").process, before)
            yield running
            held = _look(running.provenance.device).gpu
        # What closing gives back, because nothing can be asked about a GPU before an engine uses it.
        self.gpu_memory = _less(held, _look(running.provenance.device).gpu)


def turns(a: Contestant, b: Contestant, collection: Collection, at_once: bool | None) -> Iterator[Turn]:
    """Everything in ``collection`` through both: in turns if both can be open at once, else in one long turn.

    Raises:
        ImageDecodeError: there are no images.
        EngineOutOfMemoryError: there is no memory for one of them; or not for both, and ``at_once`` or the images,
            which come once, do not allow one after the other.
        FastInferError: as :func:`fastinfer.classifier`.
    """
    source, labels = iter(collection), collection.labels
    first = list(islice(source, _WARM_UP))
    if not first:
        raise ImageDecodeError("There are no images to compare on.", hint="Pass at least one.")
    if at_once is not False:
        with ExitStack() as stack:
            of_a = stack.enter_context(a.opened(first, labels))
            try:
                of_b = stack.enter_context(b.opened(first, labels))
            except EngineOutOfMemoryError:
                if at_once or not collection.repeatable:
                    raise
            else:
                size = _IN_MEMORY if any(item.path is None for item in first) else _FILES
                yield from alternate(of_a, of_b, chain(first, source), labels, size)
                return
    items = list(collection)
    with a.opened(first, labels) as running:
        pass_of_a = through(running, items, labels)
    with b.opened(first, labels) as running:
        yield Turn(items, pass_of_a, through(running, items, labels), together=False)


def _look(device: str) -> PeakMemory:
    """The memory as it is now."""
    with PeakMemory(device) as memory:
        return memory


def _less(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else max(0, whole - part)
