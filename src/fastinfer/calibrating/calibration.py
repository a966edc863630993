"""A calibration: how sure a classifier may be, learned from labelled images, and when it should not answer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from fastinfer.calibrating.conformal import rank_of
from fastinfer.fingerprint import fingerprint
from fastinfer.replacement import write_lines
from fastinfer.showing import Report, Shown

__all__ = ["Calibration", "Quality"]

#: What tells a calibration from other JSON.
_MARK: Final = {"format": "fastinfer calibration", "version": 1}


@dataclass(frozen=True, slots=True)
class Quality:
    """How well probabilities fit the labelled images.

    Attributes:
        log_loss: mean of minus the logarithm of the right label's probability, in nats; 0 is perfect.
        calibration_error: expected calibration error, 0 to 1: by how much confidence and the share that is right
            differ, over 15 bins of confidence.
    """

    log_loss: float
    calibration_error: float


@dataclass(frozen=True, slots=True, repr=False)
class Calibration(Shown):
    """A temperature and a threshold for one label set, model and prompt; get one from ``Classifier.calibrate``.

    ``str()`` gives text, notebooks and rich consoles a table.

    Attributes:
        labels: the label set; its order says nothing.
        temperature: what log-probabilities are divided by, 0.05 to 20; above 1 the model was surer than it was right.
        coverage: how often a prediction set is to hold the right label, between 0 and 1.
        scores: ``log((1 - p) / p)`` of each labelled image's right label, p its probability at the temperature; sorted.
        counts: the labelled images of each label, in the order of ``labels``.
        right: the labelled images whose likeliest label was the right one.
        skipped: images that were left out because they failed.
        before: how well the model's own probabilities fit the labelled images.
        after: how well those at the temperature do; new images fit a little less well than those it was fitted to.
        model: the model's name as it was resolved.
        prompt: the question that was asked, as in the preset.
        preset_fingerprint: of the preset that ran.
        threshold: the highest score of a label in a prediction set.
    """

    labels: tuple[str, ...]
    temperature: float
    coverage: float
    scores: tuple[float, ...]
    counts: tuple[int, ...]
    right: int
    skipped: int
    before: Quality
    after: Quality
    model: str
    prompt: str
    preset_fingerprint: str
    threshold: float = field(init=False)

    def __post_init__(self) -> None:
        # Stored, as it is asked for with every image.
        object.__setattr__(self, "threshold", self.scores[rank_of(len(self.scores), self.coverage) - 1])

    @property
    def count(self) -> int:
        """The labelled images that it was made of."""
        return len(self.scores)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for everything in it; they are in the provenance of results."""
        return fingerprint(self._content())

    def at(self, coverage: float) -> Calibration:
        """The same calibration for another coverage; needs no image.

        Args:
            coverage: between 0 and 1.

        Raises:
            PresetError: ``coverage`` is no such number.
            LabelError: there were too few images for it.
        """
        return replace(self, coverage=coverage)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold; :meth:`from_dict` reads it back."""
        return {**_MARK, **self._content(), "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that :meth:`to_dict` wrote.

        Raises:
            PresetError: a value is missing, unknown, out of its range, or does not fit the others.
        """
        from fastinfer.calibrating.file import parse

        return parse(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a JSON file, in the place of an older one; whatever fails leaves that as it was.

        Raises:
            FastInferError: the file cannot be written.
        """
        write_lines(path, [json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """The calibration that :meth:`save` wrote.

        Raises:
            PresetError: the file cannot be read, is damaged or was changed, or is not a calibration.
        """
        from fastinfer.calibrating.file import read

        return read(path)

    def _content(self) -> dict[str, Any]:
        return {
            "labels": list(self.labels),
            "temperature": self.temperature,
            "coverage": self.coverage,
            "threshold": self.threshold,
            "counts": list(self.counts),
            "right": self.right,
            "skipped": self.skipped,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "model": self.model,
            "prompt": self.prompt,
            "preset_fingerprint": self.preset_fingerprint,
            "scores": list(self.scores),
        }

    def __repr__(self) -> str:
        return (
            f"<Calibration of {self.model} for {len(self.labels)} labels: temperature {self.temperature:.3g}, "
            f"coverage {self.coverage:g}, {self.count} images, fingerprint {self.fingerprint}>"
        )

    def _report(self) -> Report:
        from fastinfer.calibrating.report import report

        return report(self)
