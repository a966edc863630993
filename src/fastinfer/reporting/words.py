"""A report in words, for terminals and text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fastinfer.comparing.statistics import Share
from fastinfer.reporting.results import Bin, ClassificationReport, Estimate, LabelFigures, ShownImage
from fastinfer.showing import Report, Section

__all__ = ["amount", "calibration_sentence", "headline", "interval", "level", "percent", "report"]

#: Rows and lines of each part; all are in the report's fields.
_LISTED: Final = 40
_IMAGES: Final = 10


def report(made: ClassificationReport) -> Report:
    """The report as text and tables: what stands above all, the labels, and what to look at."""
    return Report(
        title=made.title,
        before=[headline(made), *_before(made)],
        headings=_HEADINGS if made.judged else ("label", "images", "share", "mean confidence"),
        rows=[_row(label, made) for label in made.labels[:_LISTED]],
        sections=[
            Section("More labels", [f"{len(made.labels) - _LISTED:,}"] if len(made.labels) > _LISTED else []),
            Section("Most confused", list(_confused(made))),
            Section("Confidence", list(_bins(made.bins))),
            Section("Prediction sets", list(_sets(made))),
            Section("Mistakes of the highest confidence", _listed(made.mistakes)),
            Section("Least certain", _listed(made.least_certain)),
            Section("Not classified", [f"{f.count:,} {f.kind}; {f.name}: {f.message}" for f in made.failures]),
            Section("Remarks", made.remarks),
        ],
    )


def headline(made: ClassificationReport) -> str:
    """The report in a sentence."""
    if made.accuracy is None:
        return f"{amount(made.classified, 'image')} got {amount(len(made.labels), 'label')}; their truth is not known."
    said = f"{percent(made.accuracy.value)} of {amount(made.judged, 'image')} are right"
    return f"{said} ({level(made.confidence)} interval {interval(made.accuracy)})."


def calibration_sentence(made: ClassificationReport) -> str:
    """What the confidences are worth, in a sentence; empty without truth."""
    if made.calibration is None or made.accuracy is None:
        return ""
    mean = made.calibration.mean_confidence
    if mean > made.accuracy.high:
        return (
            f"The mean confidence, {percent(mean)}, lies above the accuracy's interval: confidences promise too much."
        )
    if mean < made.accuracy.low:
        return (
            f"The mean confidence, {percent(mean)}, lies below the accuracy's interval: confidences promise too little."
        )
    return f"The mean confidence, {percent(mean)}, lies within the accuracy's interval."


def percent(value: float) -> str:
    """A share as text, with a decimal place."""
    return f"{value:.1%}"


def interval(share: Share | Estimate) -> str:
    """An interval as text."""
    return f"{100 * share.low:.1f} to {percent(share.high)}"


def level(confidence: float) -> str:
    """How often intervals hold, as text."""
    return f"{100 * confidence:g}%"


def amount(count: int, what: str) -> str:
    """A count with its noun, which takes an s for the plural."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


_HEADINGS: Final = ("label", "images", "given", "precision", "recall", "F1")


def _before(made: ClassificationReport) -> Iterator[str]:
    failed = made.total - made.classified
    yield f"{amount(made.total, 'result')}, {failed:,} not classified; intervals at {level(made.confidence)}"
    for place, share in made.top.items():
        yield f"among the {place} likeliest: {percent(share.value)} ({interval(share)})"
    if made.balanced_accuracy is not None and made.macro_f1 is not None:
        yield f"balanced accuracy {percent(made.balanced_accuracy)}, macro F1 {percent(made.macro_f1)}"
    found = made.calibration
    if found is not None:
        yield f"expected calibration error {percent(found.error)}. {calibration_sentence(made)}"
        if found.brier is not None:
            yield f"Brier score {found.brier:.3f}, log loss {found.log_loss:.3f}"
    yield from made.configurations


def _row(label: LabelFigures, made: ClassificationReport) -> tuple[str, ...]:
    if made.judged:
        figures = (label.precision, label.recall, label.f1)
        return label.label, f"{label.support:,}", f"{label.given:,}", *map(_with_interval, figures)
    mean = "" if label.mean_confidence is None else percent(label.mean_confidence)
    return label.label, f"{label.given:,}", percent(label.given / made.classified), mean


def _with_interval(share: Share | Estimate | None) -> str:
    return "-" if share is None else f"{percent(share.value)} ({interval(share)})"


def _confused(made: ClassificationReport) -> Iterator[str]:
    wrong = [pair for pair in made.confusions if pair.truth != pair.given]
    for pair in wrong[:_IMAGES]:
        yield f"{pair.truth} taken for {pair.given}: {pair.count:,}, {percent(pair.share)} of {pair.truth}"
    if len(wrong) > _IMAGES:
        yield f"and {len(wrong) - _IMAGES:,} more pairs"


def _bins(bins: Iterable[Bin]) -> Iterator[str]:
    for found in bins:
        if found.count and found.mean_confidence is not None:
            right = "" if found.accuracy is None else f", right {_with_interval(found.accuracy)}"
            said = f"{found.low:.0%} to {found.high:.0%}: {amount(found.count, 'image')}"
            yield f"{said}, on average {percent(found.mean_confidence)}{right}"


def _sets(made: ClassificationReport) -> Iterator[str]:
    sets = made.sets
    if sets is None:
        return
    if sets.coverage is not None:
        yield f"hold the right label: {_with_interval(sets.coverage)}"
    yield f"labels in a set on average: {sets.mean_size:.2f}"
    yield f"abstained: {_with_interval(sets.abstained)}"
    if sets.answered is not None:
        yield f"right among those that did not abstain: {_with_interval(sets.answered)}"


def _listed(found: tuple[ShownImage, ...]) -> list[str]:
    return [_line(image) for image in found[:_IMAGES]]


def _line(image: ShownImage) -> str:
    truth = "" if image.truth is None else f", truth {image.truth}"
    return f"{image.name}: {image.label} {percent(image.confidence)}{truth}"
