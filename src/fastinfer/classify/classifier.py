"""The object users hold: a loaded model that classifies images."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from types import TracebackType
from typing import Literal

from fastinfer.calibrating.applying import Calibrated
from fastinfer.calibrating.calibration import Calibration
from fastinfer.calibrating.labelled import Labelled, LabelledImages
from fastinfer.classify.admission import Admission
from fastinfer.classify.groups import GroupedImages
from fastinfer.classify.job import ClassifyJob, Stages
from fastinfer.classify.labels import LabelSet, check_labels
from fastinfer.classify.patience import Patience
from fastinfer.classify.pending import PendingImage
from fastinfer.classify.results import Classification
from fastinfer.classify.stream import arun_images, run_images, start
from fastinfer.classify.tally import ImageTally
from fastinfer.classify.tasks import build_task
from fastinfer.engines.base import ClassifyEngine, GroupingEngine, Scores, Task
from fastinfer.errors import EngineDeadError, EngineError, FastInferError, RequestTimeoutError
from fastinfer.images import ImageSource, describe_source
from fastinfer.images.decoder import Decoder, Decodes
from fastinfer.images.processes import DecodeProcesses
from fastinfer.interrupts import Deferral, answer_of, heeded
from fastinfer.ordered import Pending, check_errors
from fastinfer.preset_library import DecodeIn, Preset
from fastinfer.provenance import Provenance
from fastinfer.watching.roll import Watched, enrol

__all__ = ["Classifier"]

#: Label sets whose tries are kept; changing between them costs nothing.
_KEPT_TASKS = 32


class Classifier:
    """A loaded vision-language model. Get one from :func:`fastinfer.classifier`.

    Every method may be called from any thread; images that arrive together are computed together. A context manager;
    :meth:`close` gives the memory back.
    """

    def __init__(
        self,
        engine: ClassifyEngine,
        *,
        preset: Preset,
        provenance: Provenance,
        prompt: str,
        open_prompt: str,
        max_label_tokens: int,
        max_pixels: int,
        ahead: int,
        decode_workers: int,
        decode_in: DecodeIn,
        labels: LabelSet | None,
        alias: str,
        most_at_once: int | None = None,
        groups: GroupingEngine | None = None,
    ) -> None:
        self._engine, self._groups = engine, groups
        self._preset = preset
        self._provenance = provenance
        self._alias = alias
        self._tally = ImageTally()
        self._prompt, self._open_prompt = prompt, open_prompt
        self._max_label_tokens = max_label_tokens
        self._ahead = ahead
        self._decode_workers = decode_workers
        self._admission = Admission(most_at_once)
        self._pool = ThreadPoolExecutor(decode_workers, thread_name_prefix="fastinfer-decode")
        # Images that have their places must not queue behind others that wait for one. Its threads come when needed.
        self._ready = ThreadPoolExecutor(decode_workers, thread_name_prefix="fastinfer-decode-ready")
        decoder = Decoder(max_pixels, engine.description.image_size, engine.description.preparation)
        self._decoder: Decodes = decoder if decode_in == "threads" else DecodeProcesses(decoder, decode_workers)
        self._lock = threading.Lock()
        self._tasks: OrderedDict[LabelSet | None, Task] = OrderedDict()
        self._closed = False
        try:
            self._task(labels)
        except FastInferError:
            self._end()
            raise
        engine.go_by(alias)
        self._retire = enrol(self, Watched(alias, "classify", provenance, self._tally))
        self._labels = labels
        self._calibrated: Calibrated | None = None

    @property
    def preset(self) -> Preset:
        """The preset, with the changes that were asked for."""
        return self._preset

    @property
    def alias(self) -> str:
        """The name it goes by in metrics and logs."""
        return self._alias

    @property
    def provenance(self) -> Provenance:
        """What runs: engine, model, device, and every difference from the preset."""
        return self._provenance

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels to choose from, or None where the model names what it sees. Assign to change them.

        Another label set drops the calibration; the same one in another order keeps it.
        """
        return None if self._labels is None else self._labels.names

    @labels.setter
    def labels(self, labels: Iterable[str] | None) -> None:
        self._check_open()
        checked = None if labels is None else check_labels(labels)
        self._task(checked)
        with self._lock:
            if self._calibrated is not None and not self._calibrated.covers(checked):
                self._calibrated = None
            self._labels = checked

    @property
    def calibration(self) -> Calibration | None:
        """What results get their temperature and prediction sets from; None without. Assign to change or drop it.

        It must be for the same labels, else LabelError, and for the same model and prompt, else PresetError.
        """
        calibrated = self._calibrated
        return None if calibrated is None else calibrated.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        with self._lock:
            self._calibrated = (
                None
                if calibration is None
                else Calibrated(calibration, self._labels, self._provenance, prompt=self._prompt)
            )

    @property
    def group_size(self) -> int | None:
        """Images of a batch of ``classify_many(..., reproducible=True)``; None where the engine forms them itself."""
        return None if self._groups is None else self._groups.group_size

    @property
    def decode_workers(self) -> int:
        """How many images are read and decoded side by side: the preset's number, or what its 0 came to."""
        return self._decode_workers

    def classify(
        self,
        image: ImageSource,
        *,
        labels: Iterable[str] | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Classification:
        """Classify one image.

        Args:
            image: a path, a data: URL, bytes of an image file, a PIL image, or a numpy array (H, W, 3) uint8 (also
                (H, W) and (H, W, 4)).
            labels: labels for this image alone; None takes those of the classifier.
            timeout: seconds to wait; None waits as long as it takes.
            wait: where as many images are in work as the preset's max_concurrent_requests allows, wait for a place;
                False raises QueueFullError instead. Presets without that field have no such limit.

        Raises:
            ImageDecodeError: the image cannot be read.
            LabelError: the labels cannot be scored.
            PromptTooLongError: prompt and image do not fit the context.
            QueueFullError: there is no place, and ``wait`` is False.
            RequestTimeoutError: no answer within ``timeout``.
            EngineDeadError: the classifier is closed or its engine has died.
        """
        job = self._job(labels)
        deadline = None if timeout is None else time.monotonic() + timeout
        with Deferral():  # it may be interrupted while it waits for its place and while it is read
            job.expect()
            if not wait:
                job.admit_now()
            elif not job.admit(deadline):
                raise self._too_late(image, timeout)
            scores, decode_ms = job.start(image)
        try:
            answer = answer_of(scores, None if deadline is None else max(0.0, deadline - time.monotonic()))
        except (FutureTimeoutError, KeyboardInterrupt) as error:
            with Deferral():
                scores.cancel()
            if isinstance(error, KeyboardInterrupt):
                raise
            raise self._too_late(image, timeout) from error
        return job.finish(image, answer, decode_ms)

    async def aclassify(
        self,
        image: ImageSource,
        *,
        labels: Iterable[str] | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> Classification:
        """:meth:`classify` for asyncio; cancelling the task takes the image out of the queue."""
        job = self._job(labels)

        started = start(self._pool if wait else self._ready, job, image, wait=wait)

        async def answered() -> tuple[Scores, float]:
            scores, decode_ms = await asyncio.wrap_future(started)
            return await asyncio.wrap_future(scores), decode_ms

        try:
            answer, decode_ms = await asyncio.wait_for(answered(), timeout)
        except asyncio.TimeoutError as error:
            raise self._too_late(image, timeout) from error
        return job.finish(image, answer, decode_ms)

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        labels: Iterable[str] | None = None,
        errors: Literal["raise", "return"] = "raise",
        progress: bool = False,
        reproducible: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Classification]:
        """Classify a stream of images, lazily and in order.

        Images are taken from ``images`` only as fast as results are consumed, a few batches ahead, so a generator of
        millions runs in the memory of a few dozen. Each result equals that of :meth:`classify`.

        Args:
            images: any iterable of what :meth:`classify` takes.
            labels: as for :meth:`classify`.
            errors: ``"raise"`` ends at the first image that fails; ``"return"`` yields a result whose ``error`` is
                set and goes on. An error that ``images`` itself raises comes after the results of what it gave before.
            progress: show a progress bar.
            reproducible: compute consecutive images in fixed batches of :attr:`group_size`, so that the same images in
                the same order give the same results to the last bit on this machine. Otherwise an image shares its
                batch with whatever is waiting, which may change the last digits of its probabilities.
            timeout: seconds for each image, from when it is taken from ``images``, those before it included; None waits
                as long as it takes.

        Raises:
            ValueError: ``errors`` is neither of the two.
            EngineError: ``reproducible``, and the engine forms its batches itself, as TurboMind does.
            FastInferError: as :meth:`classify`, at the position of the image.
        """
        check_errors(errors)
        job = self._job(labels)
        starting = self._starting(job, reproducible, timeout)
        return run_images(images, job, *starting, ahead=self._ahead, errors=errors, progress=progress)

    def aclassify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        labels: Iterable[str] | None = None,
        errors: Literal["raise", "return"] = "raise",
        progress: bool = False,
        reproducible: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Classification]:
        """:meth:`classify_many` for asyncio; ``images`` may also be an async iterable."""
        check_errors(errors)
        job = self._job(labels)
        starting = self._starting(job, reproducible, timeout)
        return arun_images(images, job, *starting, ahead=self._ahead, errors=errors, progress=progress)

    def calibrate(
        self,
        labelled: Labelled,
        *,
        coverage: float = 0.9,
        errors: Literal["raise", "skip"] = "raise",
        progress: bool = False,
        timeout: float | None = None,
    ) -> Calibration:
        """Learn from labelled images how sure to be, and when not to answer; sets :attr:`calibration`.

        Results then have probabilities at the fitted temperature, which moves no label, and a ``prediction_set`` that
        holds the right label of ``coverage`` of all images like these; where it is not one label, they ``abstained``.
        Use images that the model was not trained on, chosen as those that it is to be used on. With 200 of them the
        coverage is off by about two points, with 1000 by one; the least is ``coverage / (1 - coverage)``.

        Args:
            labelled: pairs of an image and its label; or a folder, whose subfolders are labels.
            coverage: between 0 and 1; ``calibration.at(...)`` changes it later without images.
            errors: ``"raise"`` ends at the first image that fails, and leaves the old calibration; ``"skip"`` goes on
                without it.
            progress: show a progress bar.
            timeout: seconds for each image, as :meth:`classify_many` counts them; None waits as long as it takes.

        Raises:
            LabelError: the classifier has no labels; an image's label is none of them; or there are too few images.
            PresetError: ``coverage`` is no number between 0 and 1, or ``errors`` neither of the two.
            ImageDecodeError: an image cannot be read, or there is no such folder, or no image in it.
            RequestTimeoutError: no answer within ``timeout``.
        """
        given, job = self._calibrating(labelled, coverage, errors)
        starting = self._starting(job, self._groups is not None, timeout)
        with heeded():
            results = run_images(
                given.images, job, *starting, ahead=self._ahead, errors=given.errors, progress=progress
            )
            fitted = given.fit([r.ok for r in results], self._provenance, self._prompt)
        self.calibration = fitted
        return fitted

    async def acalibrate(
        self,
        labelled: Labelled,
        *,
        coverage: float = 0.9,
        errors: Literal["raise", "skip"] = "raise",
        progress: bool = False,
        timeout: float | None = None,
    ) -> Calibration:
        """:meth:`calibrate` for asyncio."""
        given, job = self._calibrating(labelled, coverage, errors)
        starting = self._starting(job, self._groups is not None, timeout)
        results = arun_images(given.images, job, *starting, ahead=self._ahead, errors=given.errors, progress=progress)
        self.calibration = fitted = given.fit([r.ok async for r in results], self._provenance, self._prompt)
        return fitted

    def close(self) -> None:
        """Give the memory back. What waits fails with EngineDeadError. Idempotent."""
        self._end()
        self._retire()

    def _end(self) -> None:
        self._closed = True
        self._admission.close()
        self._engine.close()
        # Not cancelled but answered: with the engine closed, each of them fails at once with EngineDeadError.
        self._pool.shutdown(wait=True)
        self._ready.shutdown(wait=True)
        self._decoder.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        labels = "open set" if self._labels is None else f"{len(self._labels.names)} labels"
        state = "closed" if self._closed else self._provenance.device
        return f"<Classifier {self._provenance.preset!r}: {self._provenance.model}, {labels}, {state}>"

    def _job(self, labels: Iterable[str] | None) -> ClassifyJob:
        self._check_open()
        given = None if labels is None else check_labels(labels)
        with self._lock:
            chosen, calibrated = given or self._labels, self._calibrated
        if given is not None and calibrated is not None and not calibrated.covers(given):
            calibrated = None
        return self._job_of(chosen, calibrated=calibrated)

    def _calibrating(self, labelled: Labelled, coverage: float, errors: str) -> tuple[LabelledImages, ClassifyJob]:
        self._check_open()
        given = LabelledImages(labelled, self._labels, coverage, errors)
        return given, self._job_of(given.labels, said=given.said)

    def _job_of(
        self, labels: LabelSet | None, *, calibrated: Calibrated | None = None, said: list[Scores] | None = None
    ) -> ClassifyJob:
        stages = Stages(self._check_open, self._admission, self._decoder, self._engine, self._groups, self._tally)
        return ClassifyJob(stages, self._task(labels), labels, self._provenance, calibrated=calibrated, said=said)

    def _starting(
        self, job: ClassifyJob, reproducible: bool, timeout: float | None = None
    ) -> tuple[Callable[[ImageSource], Pending[Classification]], Callable[[], None]]:
        """How the images of a stream are started, and what is to be done after the last one."""

        def patience(image: ImageSource) -> Patience:
            return Patience(timeout, partial(self._too_late, image, timeout))

        if not reproducible:
            return (lambda i: PendingImage(job, i, patience(i), start(self._pool, job, i))), lambda: None
        if self._groups is None:
            raise EngineError(
                f"{self._provenance.engine} forms its batches itself: results cannot be had reproducible.",
                hint="Leave reproducible out, or take a preset of llama.cpp.",
            )
        grouped = GroupedImages(self._pool, job, self._groups.group_size, patience)
        return grouped.start, grouped.end

    def _check_open(self) -> None:
        if self._closed:
            raise EngineDeadError("The classifier is closed.", hint="Create a new one with fastinfer.classifier().")
        # After a fork, neither the engine's threads nor those that decode are there, and locks may be held for ever.
        self._engine.check_process()

    def _task(self, labels: LabelSet | None) -> Task:
        """The task for a label set; equal label sets share one, so that their images share batches."""
        with self._lock:
            task = self._tasks.get(labels)
            if task is None:
                task = self._tasks[labels] = build_task(
                    self._engine, self._open_prompt if labels is None else self._prompt, labels, self._max_label_tokens
                )
                if len(self._tasks) > _KEPT_TASKS:
                    self._tasks.popitem(last=False)
            else:
                self._tasks.move_to_end(labels)
            return task

    def _too_late(self, image: ImageSource, timeout: float | None) -> RequestTimeoutError:
        error = RequestTimeoutError(
            f"{describe_source(image)} was not classified within {timeout} s.",
            hint="Raise timeout, or send fewer images at once.",
        )
        self._tally.errors.add(error)
        return error
