"""One label set's way through a classifier: start an image, finish it, or report that it failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from fastinfer.calibrating.applying import Calibrated
from fastinfer.classify.admission import Admission
from fastinfer.classify.finishing import classified, failed
from fastinfer.classify.groups import Loaded
from fastinfer.classify.labels import LabelSet
from fastinfer.classify.results import Classification
from fastinfer.classify.tally import ImageTally
from fastinfer.engines.base import ClassifyEngine, GroupingEngine, Scores, Task
from fastinfer.errors import FastInferError, QueueFullError
from fastinfer.images import ImageSource
from fastinfer.images.decoder import Decodes
from fastinfer.interrupts import Deferral
from fastinfer.provenance import Provenance

__all__ = ["ClassifyJob", "Stages"]


@dataclass(frozen=True, slots=True)
class Stages:
    """What the images of every job of a classifier go through.

    Attributes:
        check_open: raises EngineDeadError where the classifier takes no more work.
        admission: limits the images in work.
        decoder: reads them.
        engine: computes them.
        groups: the same engine, where it computes images in batches that the caller forms; else None.
        tally: counts them.
    """

    check_open: Callable[[], None]
    admission: Admission
    decoder: Decodes
    engine: ClassifyEngine
    groups: GroupingEngine | None
    tally: ImageTally


class ClassifyJob:
    """See :class:`fastinfer.classify.stream.Job` and :class:`fastinfer.classify.groups.GroupJob`.

    Args:
        stages: what its images go through.
        task: what the engine is asked.
        labels: the label set; None where the model names what it sees.
        provenance: what runs, without the calibration.
        calibrated: the calibration for these labels; None without.
        said: the engine's answers are added to it as results are finished; None keeps none.
    """

    def __init__(
        self,
        stages: Stages,
        task: Task,
        labels: LabelSet | None,
        provenance: Provenance,
        *,
        calibrated: Calibrated | None = None,
        said: list[Scores] | None = None,
    ) -> None:
        self._stages, self._task, self._labels = stages, task, labels
        self._calibrated, self._said = calibrated, said
        self._provenance = provenance if calibrated is None else calibrated.provenance

    def check_process(self) -> None:
        """Refuse to go on in a forked process, where nobody would ever answer, before any lock is taken."""
        self._stages.engine.check_process()

    def expect(self) -> None:
        """An image was handed over."""
        self._stages.tally.expect()

    def admit(self, deadline: float | None) -> bool:
        """Wait for a place among the images in work; False where the deadline passes first."""
        entered = False
        try:
            entered = self._stages.admission.enter(deadline)
        finally:
            if not entered:
                self._stages.tally.withdraw()
        return entered

    def admit_now(self) -> None:
        """Take such a place without waiting; QueueFullError where there is none."""
        try:
            self._stages.admission.enter_now()
        except QueueFullError as error:
            self._stages.tally.withdraw(error)
            raise

    def withdraw(self, *, admitted: bool) -> None:
        """The image was taken back before it was started; gives the place back that it had."""
        self._stages.tally.withdraw()
        if admitted:
            self._stages.admission.leave()

    def start(self, image: ImageSource) -> tuple[Future[Scores], float]:
        """Decode and queue an image that has a place; the engine's future and the milliseconds it took."""
        begun = time.perf_counter()
        # The callback may outlive the classifier, and must not keep it alive.
        leave, tally = self._stages.admission.leave, self._stages.tally
        with Deferral() as interrupts:  # one that is interrupted gives its place back, and counts once
            tally.begin()
            try:
                self._stages.check_open()
                with interrupts.lifted():
                    prepared = self._stages.decoder.load(image)
                scores = self._stages.engine.submit(prepared, self._task)
            except BaseException as error:
                leave()
                tally.spoil(error)
                raise
            decode_ms = (time.perf_counter() - begun) * 1e3
            tally.decoded()
            tally.submit()

            def end(scores: Future[Scores]) -> None:
                leave()
                tally.end(begun, decode_ms, scores)

            scores.add_done_callback(end)
        return scores, decode_ms

    def load(self, image: ImageSource) -> Loaded:
        """Decode an image of a group."""
        begun = time.perf_counter()
        tally = self._stages.tally
        tally.begin()
        try:
            self._stages.check_open()
            loaded = self._stages.decoder.load(image)
        except BaseException as error:
            tally.spoil(error)
            raise
        tally.decoded()
        return Loaded(loaded, (time.perf_counter() - begun) * 1e3, begun)

    def start_together(self, images: list[Loaded]) -> list[Future[Scores]]:
        """Queue decoded images as a batch of their own."""
        groups, tally = self._stages.groups, self._stages.tally
        assert groups is not None
        try:
            futures = groups.submit_together([loaded.image for loaded in images], self._task)
        except FastInferError as error:
            tally.errors.add(error, len(images))
            raise
        for loaded, future in zip(images, futures, strict=True):
            tally.submit()
            future.add_done_callback(partial(tally.end, loaded.begun, loaded.decode_ms))
        return futures

    def finish(self, image: ImageSource, scores: Scores, decode_ms: float) -> Classification:
        """The result."""
        if self._said is not None:
            self._said.append(scores)
        return classified(image, scores, decode_ms, self._labels, self._provenance, self._calibrated)

    def failed(self, image: ImageSource, error: FastInferError) -> Classification:
        """The result of an image that failed."""
        return failed(image, error, self._provenance)
