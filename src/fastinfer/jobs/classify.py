"""A job of images: files to rows of classifications."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.finishing import failed
from fastinfer.classify.results import Classification
from fastinfer.errors import FastInferError, raise_if_fatal
from fastinfer.jobs.configuration import Configuration, configuration
from fastinfer.jobs.items import Files, read_ahead
from fastinfer.jobs.work import Computed, Cost, Entry, Known, Outcome
from fastinfer.provenance import Provenance
from fastinfer.tables.rows import classification_row

__all__ = ["ClassifyWork"]


class ClassifyWork:
    """Images for a classifier; see :class:`fastinfer.jobs.work.Work`.

    Args:
        classifier: open, and left open.
        files: the images.
        labels: to choose from; None takes those of the classifier.
        top: probabilities of so many of the likeliest labels in each row; None keeps all.
    """

    kind = "classify"
    unit = "image"

    def __init__(
        self, classifier: Classifier, files: Files, *, labels: Iterable[str] | None = None, top: int | None = None
    ) -> None:
        self._classifier, self._files, self._top = classifier, files, top
        self._labels = None if labels is None else list(labels)
        chosen = classifier.labels if self._labels is None else self._labels
        calibration = classifier.calibration
        self.provenance: Provenance = replace(
            classifier.provenance, calibration=None if calibration is None else calibration.fingerprint
        )
        self.configuration: Configuration = configuration(
            self.kind, classifier.preset, self.provenance, labels=None if chosen is None else list(chosen), top=top
        )
        # TurboMind forms its batches itself.
        self.group: int = classifier.group_size or 1
        self._reproducible = classifier.group_size is not None
        self.decode_workers: int = classifier.decode_workers

    def __len__(self) -> int:
        return len(self._files.names)

    def entries(self, known: Known) -> Generator[Entry[bytes], None, None]:
        """Every image, read ahead."""
        with closing(read_ahead(self._files, known)) as readings:
            for reading in readings:
                if reading.state is None:
                    assert reading.error is not None
                    yield Entry(None, failure=self._unread(reading.error))
                else:
                    yield Entry(reading.state.content, reading.data)

    def compute(self, payloads: Iterator[bytes]) -> Generator[Computed, None, None]:
        """Every image classified, where the engine can in groups that depend on their order alone."""
        results = self._classifier.classify_many(
            payloads, labels=self._labels, errors="return", reproducible=self._reproducible
        )
        for result in results:
            raise_if_fatal(result.error)
            yield Computed(self._outcome(result), _cost(result))

    def finish(self, place: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the file's path first and the configuration last."""
        return {"path": self._files.shown(place), **row, "configuration": self.configuration.key}

    def _outcome(self, result: Classification) -> Outcome:
        row = classification_row(result, timings=False, top=self._top)
        del row["source"]
        return Outcome(row, row["error_type"])

    def _unread(self, error: FastInferError) -> Outcome:
        return self._outcome(failed(b"", error, self.provenance))


def _cost(result: Classification) -> Cost:
    timings = result.timings
    return (
        Cost() if timings is None else Cost(timings.decode_ms, timings.queued_ms, timings.encode_ms + timings.score_ms)
    )
