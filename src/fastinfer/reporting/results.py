"""What a report on a classifier's answers holds."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinfer.comparing.statistics import Share

if TYPE_CHECKING:
    from fastinfer.showing import Report

__all__ = [
    "Bin",
    "CalibrationFigures",
    "ClassificationReport",
    "Confusion",
    "Estimate",
    "Failure",
    "LabelFigures",
    "PredictionSets",
    "ShownImage",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure, 0 to 1.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """A label in figures.

    Attributes:
        label: its name, as the results spell it.
        support: images whose truth it is.
        given: images that were given it, also those without a truth.
        mean_confidence: mean confidence of those, 0 to 1; None if there are none.
        precision: of the images that were given it and have a truth, those whose truth it is; None if there are none.
        recall: of the images whose truth it is, those that were given it; None if there are none.
        f1: the harmonic mean of both; None if there are none of either.
    """

    label: str
    support: int
    given: int
    mean_confidence: float | None
    precision: Share | None
    recall: Share | None
    f1: Estimate | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images of a label that were given one and the same label, the right one or another.

    Attributes:
        truth: the right label.
        given: the label that they were given.
        count: how many there are, at least 1.
        share: among the images of ``truth``, 0 to 1.
    """

    truth: str
    given: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The images whose confidence lies in a range.

    Attributes:
        low: lower end of the range, which belongs to it.
        high: upper end, which belongs to the next one; the last range holds 1.
        count: how many images; with a truth only those that have one.
        mean_confidence: their mean confidence, 0 to 1; None without images.
        accuracy: how many of them are right; None without images or truth.
    """

    low: float
    high: float
    count: int
    mean_confidence: float | None
    accuracy: Share | None


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """Whether confidences mean what they say.

    Attributes:
        error: the expected calibration error, 0 to 1: the distance of accuracy and mean confidence in each of the
            report's ten equally wide bins, averaged with the bins' counts as weights.
        mean_confidence: of the images with a truth, 0 to 1.
        brier: the Brier score, 0 to 2, lower is better: the squared distance of the probabilities from 1 for the
            right label and 0 for the others, summed over the labels, averaged over the images.
        log_loss: the mean of minus the natural logarithm of the right label's probability, at least 0.
        scored: images that ``brier`` and ``log_loss`` are over: those whose results hold the probabilities of all
            labels with the right one among them. Without any, both are None.
    """

    error: float
    mean_confidence: float
    brier: float | None
    log_loss: float | None
    scored: int


@dataclass(frozen=True, slots=True)
class PredictionSets:
    """What the prediction sets of calibrated results are worth.

    Attributes:
        total: results that have one.
        mean_size: labels in a set on average.
        sizes: how many sets there are of each size, smallest first.
        abstained: how many results abstained.
        coverage: how many sets hold the right label, of those with a truth; None without truth.
        answered: how many are right of those that did not abstain and have a truth; None if there are none.
    """

    total: int
    mean_size: float
    sizes: dict[int, int]
    abstained: Share
    coverage: Share | None
    answered: Share | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind of error.

    Attributes:
        kind: the error's class.
        count: images that failed so.
        name: the first of them.
        message: what its error said.
    """

    kind: str
    count: int
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image on the contact sheet.

    Attributes:
        name: its path, or its source.
        label: the label it was given.
        confidence: the label's probability, 0 to 1.
        truth: the right label; None where it is not known.
        right: whether it was given the right label; None where that is not known.
        picture: a small copy as a ``data:`` URL; None where the image is not there.
    """

    name: str
    label: str
    confidence: float
    truth: str | None
    right: bool | None
    picture: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ClassificationReport:
    """How good a classifier's answers are. ``str()`` gives text; notebooks and rich consoles show more.

    Attributes:
        title: what stands above it.
        confidence: of all intervals, for example 0.95.
        total: results.
        classified: those that are not errors.
        judged: those of them that have a truth, which all figures about being right are over.
        accuracy: how many of these are right; None without truth.
        top: how many have the right label among the k likeliest, by k; only where there are more labels than k.
        balanced_accuracy: the mean recall of the labels that have images, 0 to 1; None without truth.
        macro_f1: the mean F1 score of the labels that have images, 0 to 1; None without truth.
        labels: every label that was given or is a truth, sorted by name.
        confusions: every pair of truth and given label that occurs, equal ones too; the largest counts first.
        bins: ten equally wide ranges of confidence from 0 to 1.
        calibration: what the confidences are worth; None without truth.
        sets: what the prediction sets are worth; None where results have none.
        mistakes: the mistakes with the highest confidence, highest first.
        least_certain: the images with the lowest confidence, lowest first.
        failures: the errors by kind, most frequent first.
        configurations: what made the results, as far as they tell.
        remarks: what to know to read the figures.
    """

    title: str
    confidence: float
    total: int
    classified: int
    judged: int
    accuracy: Share | None
    top: dict[int, Share]
    balanced_accuracy: float | None
    macro_f1: float | None
    labels: tuple[LabelFigures, ...]
    confusions: tuple[Confusion, ...]
    bins: tuple[Bin, ...]
    calibration: CalibrationFigures | None
    sets: PredictionSets | None
    mistakes: tuple[ShownImage, ...]
    least_certain: tuple[ShownImage, ...]
    failures: tuple[Failure, ...]
    configurations: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML file that needs nothing else: no script, no network, pictures inside.

        The file appears complete or not at all. Equal results give equal bytes.

        Args:
            path: where to; a file of this name is replaced.

        Returns:
            the path.

        Raises:
            FastInferError: it cannot be written.
        """
        from fastinfer.reporting.page import save

        return save(self, path)

    def to_html(self) -> str:
        """The whole HTML document that :meth:`save` writes."""
        from fastinfer.reporting.page import document

        return document(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold, without the pictures."""
        values = asdict(self)
        for image in (*values["mistakes"], *values["least_certain"]):
            del image["picture"]
        return values

    def __str__(self) -> str:
        return self._report().as_text()

    def __rich__(self) -> object:
        return self._report().as_rich()

    def _repr_html_(self) -> str:
        from fastinfer.reporting.page import fragment

        return fragment(self)

    def _report(self) -> Report:
        from fastinfer.reporting.words import report

        return report(self)
