"""The object users hold: a loaded model that classifies images."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
from typing import Literal

from fastinfer.classify.admission import Admission
from fastinfer.classify.groups import GroupedImages
from fastinfer.classify.labels import LabelSet, check_labels
from fastinfer.classify.results import Classification, Timings
from fastinfer.classify.stream import PendingImage, start
from fastinfer.engines.base import ClassifyEngine, GroupingEngine, Scores, Task
from fastinfer.engines.scoring import normalise
from fastinfer.errors import EngineDeadError, EngineError, FastInferError, RequestTimeoutError
from fastinfer.images import ImageSource, describe_source
from fastinfer.images.decoder import Decoder, Decodes
from fastinfer.images.prepared import EngineImage
from fastinfer.images.processes import DecodeProcesses
from fastinfer.ordered import Pending, check_errors, run, run_async
from fastinfer.preset_library import DecodeIn, Preset
from fastinfer.provenance import Provenance

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
        most_at_once: int | None = None,
        groups: GroupingEngine | None = None,
    ) -> None:
        self._engine, self._groups = engine, groups
        self._preset = preset
        self._provenance = provenance
        self._prompt, self._open_prompt = prompt, open_prompt
        self._max_label_tokens = max_label_tokens
        self._ahead = ahead
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
            self.close()
            raise
        self._labels = labels

    @property
    def preset(self) -> Preset:
        """The preset, with the changes that were asked for."""
        return self._preset

    @property
    def provenance(self) -> Provenance:
        """What runs: engine, model, device, and every difference from the preset."""
        return self._provenance

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels to choose from, or None where the model names what it sees. Assign to change them."""
        return None if self._labels is None else self._labels.names

    @labels.setter
    def labels(self, labels: Iterable[str] | None) -> None:
        self._check_open()
        checked = None if labels is None else check_labels(labels)
        self._task(checked)
        self._labels = checked

    @property
    def group_size(self) -> int | None:
        """Images of a batch of ``classify_many(..., reproducible=True)``; None where the engine forms them itself."""
        return None if self._groups is None else self._groups.group_size

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
        if not wait:
            job.admit_now()
        elif not job.admit(deadline):
            raise _too_late(image, timeout)
        scores, decode_ms = job.start(image)
        try:
            answer = scores.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except (FutureTimeoutError, KeyboardInterrupt) as error:
            scores.cancel()
            if isinstance(error, KeyboardInterrupt):
                raise
            raise _too_late(image, timeout) from error
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
            raise _too_late(image, timeout) from error
        return job.finish(image, answer, decode_ms)

    def classify_many(
        self,
        images: Iterable[ImageSource],
        *,
        labels: Iterable[str] | None = None,
        errors: Literal["raise", "return"] = "raise",
        progress: bool = False,
        reproducible: bool = False,
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

        Raises:
            ValueError: ``errors`` is neither of the two.
            EngineError: ``reproducible``, and the engine forms its batches itself, as TurboMind does.
            FastInferError: as :meth:`classify`, at the position of the image.
        """
        check_errors(errors)
        job = self._job(labels)
        take, ended = self._starting(job, reproducible)
        return run(
            images,
            take,
            job.failed,
            ahead=self._ahead,
            errors=errors,
            unit="image",
            progress=progress,
            ended=ended,
        )

    def aclassify_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        labels: Iterable[str] | None = None,
        errors: Literal["raise", "return"] = "raise",
        progress: bool = False,
        reproducible: bool = False,
    ) -> AsyncIterator[Classification]:
        """:meth:`classify_many` for asyncio; ``images`` may also be an async iterable."""
        check_errors(errors)
        job = self._job(labels)
        take, ended = self._starting(job, reproducible)

        async def begin(image: ImageSource) -> Pending[Classification]:
            return take(image)

        return run_async(
            images,
            begin,
            job.failed,
            ahead=self._ahead,
            errors=errors,
            unit="image",
            progress=progress,
            ended=ended,
        )

    def close(self) -> None:
        """Give the memory back. What waits fails with EngineDeadError. Idempotent."""
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

    def _job(self, labels: Iterable[str] | None) -> _ClassifyJob:
        self._check_open()
        chosen = self._labels if labels is None else check_labels(labels)
        return _ClassifyJob(self, chosen, self._task(chosen))

    def _starting(
        self, job: _ClassifyJob, reproducible: bool
    ) -> tuple[Callable[[ImageSource], Pending[Classification]], Callable[[], None]]:
        """How the images of a stream are started, and what is to be done after the last one."""
        if not reproducible:
            return (lambda image: PendingImage(self._pool, job, image)), lambda: None
        if self._groups is None:
            raise EngineError(
                f"{self._provenance.engine} forms its batches itself: results cannot be had reproducible.",
                hint="Leave reproducible out, or take a preset of llama.cpp.",
            )
        grouped = GroupedImages(self._pool, job, self._groups.group_size)
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
                task = self._tasks[labels] = self._build_task(labels)
                if len(self._tasks) > _KEPT_TASKS:
                    self._tasks.popitem(last=False)
            else:
                self._tasks.move_to_end(labels)
            return task

    def _build_task(self, labels: LabelSet | None) -> Task:
        opening, text = _around_image(self._open_prompt if labels is None else self._prompt)
        if labels is None:
            return Task(text, None, self._max_label_tokens, opening)
        named = ", ".join(labels.texts)
        opening, text = opening.replace("{labels}", named), text.replace("{labels}", named)
        trie = labels.build_trie(lambda label: self._engine.tokenize_label(label, text))
        return Task(text, trie, self._max_label_tokens, opening)

    def _start(self, image: ImageSource, task: Task) -> tuple[Future[Scores], float]:
        begun = time.perf_counter()
        # The callback may outlive the classifier, and must not keep it alive.
        leave = self._admission.leave
        try:
            self._check_open()
            scores = self._engine.submit(self._decoder.load(image), task)
        except BaseException:
            leave()
            raise
        scores.add_done_callback(lambda _: leave())
        return scores, (time.perf_counter() - begun) * 1e3

    def _load(self, image: ImageSource) -> tuple[EngineImage, float]:
        begun = time.perf_counter()
        self._check_open()
        return self._decoder.load(image), (time.perf_counter() - begun) * 1e3

    def _finish(self, image: ImageSource, scores: Scores, decode_ms: float, labels: LabelSet | None) -> Classification:
        if scores.labels is not None and labels is not None:
            shares, mass = normalise(scores.labels)
            # Equal probabilities are ordered by name, so that the order of the labels changes nothing.
            ranked = sorted(zip(labels.names, shares.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
        else:
            assert scores.naming is not None
            mass = scores.naming.probability
            ranked = [(scores.naming.text, mass)]
        return Classification(
            source=describe_source(image),
            label=ranked[0][0],
            confidence=ranked[0][1],
            probabilities=dict(ranked),
            label_mass=mass,
            prompt_tokens=scores.prompt_tokens,
            timings=Timings(decode_ms, scores.queued_ms, scores.encode_ms, scores.score_ms, scores.batch),
            provenance=self._provenance,
        )

    def _failed(self, image: ImageSource, error: FastInferError) -> Classification:
        return Classification(
            source=describe_source(image),
            label=None,
            confidence=0.0,
            probabilities={},
            label_mass=0.0,
            prompt_tokens=0,
            timings=None,
            provenance=self._provenance,
            error=error,
        )


class _ClassifyJob:
    """One label set's way through a classifier: start an image, finish it, or report that it failed."""

    def __init__(self, owner: Classifier, labels: LabelSet | None, task: Task) -> None:
        self._owner, self._labels, self._task = owner, labels, task

    def admit(self, deadline: float | None) -> bool:
        return self._owner._admission.enter(deadline)

    def admit_now(self) -> None:
        self._owner._admission.enter_now()

    def leave(self) -> None:
        self._owner._admission.leave()

    def start(self, image: ImageSource) -> tuple[Future[Scores], float]:
        return self._owner._start(image, self._task)

    def load(self, image: ImageSource) -> tuple[EngineImage, float]:
        return self._owner._load(image)

    def start_together(self, images: list[EngineImage]) -> list[Future[Scores]]:
        groups = self._owner._groups
        assert groups is not None
        return groups.submit_together(images, self._task)

    def finish(self, image: ImageSource, scores: Scores, decode_ms: float) -> Classification:
        return self._owner._finish(image, scores, decode_ms, self._labels)

    def failed(self, image: ImageSource, error: FastInferError) -> Classification:
        return self._owner._failed(image, error)


def _around_image(prompt: str) -> tuple[str, str]:
    """The text before the image and the text after it, which is all of it where the prompt names no place."""
    before, place, after = prompt.partition("{image}")
    return (before, after) if place else ("", prompt)


def _too_late(image: ImageSource, timeout: float | None) -> RequestTimeoutError:
    return RequestTimeoutError(
        f"{describe_source(image)} was not classified within {timeout} s.",
        hint="Raise timeout, or send fewer images at once.",
    )
