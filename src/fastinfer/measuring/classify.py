"""Images through a loaded classifier, in bulk and one at a time."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fastinfer.errors import FastInferError, ImageDecodeError
from fastinfer.interrupts import answer_of, heeded
from fastinfer.measuring.figures import Figures, load_text, percentile
from fastinfer.measuring.memory import PeakMemory

if TYPE_CHECKING:
    from fastinfer.classify import Classifier
    from fastinfer.images import ImageSource

__all__ = ["measure_classify"]

#: Images that are timed one at a time after those in bulk; fewer where they take longer than the bulk.
_ALONE = 32


def measure_classify(
    classifier: Classifier,
    images: Sequence[ImageSource],
    *,
    labels: Iterable[str] | None = None,
    passes: int = 1,
    seconds: float | None = None,
    concurrency: int | None = None,
) -> Figures:
    """Classify the images, and again.

    Without ``concurrency`` the throughput is that of ``classify_many``, and the latency that of images which come one
    at a time, some of which are timed afterwards. With it both are those of so many clients, each of which asks for its
    next image when it has the answer to the last.

    Args:
        classifier: the model.
        images: as :meth:`fastinfer.Classifier.classify` takes them.
        labels: to choose from; None takes those of the classifier.
        passes: how often every image is classified.
        seconds: go on with the images for so long instead; each client's last image is finished.
        concurrency: the number of clients, 1 and up.

    Raises:
        ImageDecodeError: there are no images.
        FastInferError: every one of them failed; the first one's error.
    """
    if not images:
        raise ImageDecodeError("There are no images to measure with.", hint="Give at least one.")
    run = _Run(classifier, None if labels is None else list(labels))
    with heeded(), PeakMemory(classifier.provenance.device) as memory:
        started = time.perf_counter()
        work = _work(images, passes, None if seconds is None else started + seconds)
        if concurrency is None:
            run.in_bulk(work)
        else:
            run.by_clients(work, concurrency)
        taken = time.perf_counter() - started
        bulk = run.items, run.errors, run.prompt_tokens
        if concurrency is None and run.items:
            alone = _work(images, 1, time.perf_counter() + taken)
            run.by_clients(itertools.islice(alone, min(_ALONE, bulk[0])), 1)
    items, errors, prompt_tokens = bulk
    if not items:
        assert run.failure is not None
        raise run.failure
    clients = concurrency or 1
    latencies = run.latencies or [taken]
    return Figures(
        kind="classify",
        items=items,
        errors=errors,
        seconds=taken,
        throughput=items / taken,
        concurrency=concurrency,
        latency_p50=percentile(latencies, 50),
        latency_p95=percentile(latencies, 95),
        latency_p99=percentile(latencies, 99),
        latency_load=load_text(clients),
        prompt_tokens=prompt_tokens,
        memory=memory.process,
        gpu_memory=memory.gpu,
    )


class _Run:
    """Classifies, and counts what came of it."""

    def __init__(self, classifier: Classifier, labels: list[str] | None) -> None:
        self._classifier, self._labels = classifier, labels
        self._lock = threading.Lock()
        self.items = self.errors = self.prompt_tokens = 0
        self.latencies: list[float] = []
        self.failure: FastInferError | None = None

    def in_bulk(self, work: Iterable[ImageSource]) -> None:
        """By ``classify_many``."""
        for result in self._classifier.classify_many(work, labels=self._labels, errors="return"):
            self._count(result.error, result.prompt_tokens)

    def by_clients(self, work: Iterator[ImageSource], clients: int) -> None:
        """By threads that take image after image, each timed."""
        over = threading.Event()

        def client() -> None:
            while not over.is_set():
                with self._lock:  # iterators are not for several threads
                    image = next(work, None)
                if image is None:
                    return
                asked = time.perf_counter()
                try:
                    result = self._classifier.classify(image, labels=self._labels)
                except FastInferError as error:
                    self._count(error, 0)
                else:
                    self._count(None, result.prompt_tokens)
                    self.latencies.append(time.perf_counter() - asked)

        with ThreadPoolExecutor(clients, thread_name_prefix="fastinfer-client") as pool:
            running = [pool.submit(client) for _ in range(clients)]
            try:
                for future in running:
                    answer_of(future)
            finally:
                over.set()

    def _count(self, error: FastInferError | None, prompt_tokens: int) -> None:
        with self._lock:
            if error is None:
                self.items += 1
                self.prompt_tokens += prompt_tokens
            else:
                self.errors += 1
                self.failure = self.failure or error


def _work(images: Sequence[ImageSource], passes: int, end: float | None) -> Iterator[ImageSource]:
    if end is None:
        return itertools.chain.from_iterable(itertools.repeat(images, passes))
    return itertools.takewhile(lambda _: time.perf_counter() < end, itertools.cycle(images))
