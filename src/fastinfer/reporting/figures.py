"""From counts to the figures of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import fmean
from typing import Final

from fastinfer.errors import LabelError
from fastinfer.reporting.intervals import f1_estimate, share_of
from fastinfer.reporting.names import natural
from fastinfer.reporting.results import (
    Bin,
    CalibrationFigures,
    ClassificationReport,
    Confusion,
    LabelFigures,
    PredictionSets,
)
from fastinfer.reporting.tally import BINS, Tally

__all__ = ["figures"]

#: Labels that a message names.
_NAMED: Final = 5


def figures(tally: Tally, *, title: str, confidence: float, remarks: Iterator[str]) -> ClassificationReport:
    """The report of all results that were counted.

    Args:
        tally: the counts.
        title: what stands above the report.
        confidence: of the intervals.
        remarks: what is known of the truth beside the counts.

    Raises:
        LabelError: every truth is another word than the labels that there were to choose from.
    """
    support: Counter[str] = Counter()
    for (truth, _), count in tally.pairs.items():
        support[truth] += count
    strange = _strange(tally, support)
    labels = tuple(_labels(tally, support, confidence))
    with_images = [label for label in labels if label.support]
    return ClassificationReport(
        title=title,
        confidence=confidence,
        total=tally.total,
        classified=tally.classified,
        judged=tally.judged,
        accuracy=share_of(tally.right, tally.judged, confidence),
        top={
            place: found
            for place, count in tally.top.items()
            if place <= tally.fewest_probabilities
            and place < tally.most_probabilities
            and (found := share_of(count, tally.judged, confidence))
        },
        balanced_accuracy=fmean(label.recall.value for label in with_images if label.recall) if with_images else None,
        macro_f1=fmean(label.f1.value for label in with_images if label.f1) if with_images else None,
        labels=labels,
        confusions=tuple(_confusions(tally, support)),
        bins=tuple(_bins(tally, confidence)),
        calibration=_calibration(tally),
        sets=_sets(tally, confidence),
        mistakes=tally.mistakes.images(),
        least_certain=tally.least_certain.images(),
        failures=tuple(sorted(tally.failures.values(), key=lambda failure: (-failure.count, failure.kind))),
        configurations=tuple(tally.configurations),
        remarks=(*_remarks(tally, strange), *remarks),
    )


def _strange(tally: Tally, support: Counter[str]) -> dict[str, int]:
    """The truths that no result could choose, with their images; only where results say what they could choose."""
    offered = tally.offered
    if tally.most_probabilities < 2:
        return {}
    strange = {truth: count for truth, count in support.items() if truth not in offered}
    if strange and len(strange) == len(support):
        raise LabelError(
            f"No truth is a label of the results. Truths: {_some(tally, strange)}. Labels: {_some(tally, offered)}.",
            hint="Write the truth as the labels are written; where folders are the truth, pass images= with the "
            "folder that they are in.",
        )
    return strange


def _some(tally: Tally, labels: set[str] | dict[str, int]) -> str:
    named = sorted(map(tally.spelling, labels), key=natural)
    more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    return ", ".join(map(repr, named[:_NAMED])) + more


def _labels(tally: Tally, support: Counter[str], confidence: float) -> Iterator[LabelFigures]:
    judged: Counter[str] = Counter()
    for (_, label), count in tally.pairs.items():
        judged[label] += count
    spelt = {label: tally.spelling(label) for label in support.keys() | tally.given.keys()}
    for label, name in sorted(spelt.items(), key=lambda item: (natural(item[1]), item[0])):
        both, of_truth, given = tally.pairs[label, label], support[label], tally.given[label]
        yield LabelFigures(
            label=name,
            support=of_truth,
            given=given,
            mean_confidence=tally.confidence[label] / given if given else None,
            precision=share_of(both, judged[label], confidence),
            recall=share_of(both, of_truth, confidence),
            f1=f1_estimate(both, of_truth, judged[label], confidence),
        )


def _confusions(tally: Tally, support: Counter[str]) -> Iterator[Confusion]:
    found = [
        Confusion(tally.spelling(truth), tally.spelling(given), count, count / support[truth])
        for (truth, given), count in tally.pairs.items()
        if count
    ]
    return iter(sorted(found, key=lambda pair: (-pair.count, -pair.share, natural(pair.truth), natural(pair.given))))


def _bins(tally: Tally, confidence: float) -> Iterator[Bin]:
    for place, counts in enumerate(tally.bins):
        yield Bin(
            low=place / BINS,
            high=(place + 1) / BINS,
            count=counts.count,
            mean_confidence=counts.confidence / counts.count if counts.count else None,
            accuracy=share_of(counts.right, counts.count, confidence) if tally.judged else None,
        )


def _calibration(tally: Tally) -> CalibrationFigures | None:
    """Of the judged images. The error is that of M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well
    calibrated probabilities using Bayesian binning", AAAI 2015, with the confidence of the given label as C. Guo et
    al., "On calibration of modern neural networks", ICML 2017, have it."""
    if not tally.judged:
        return None
    distance = sum(abs(counts.right - counts.confidence) for counts in tally.bins)
    scores = tally.scores
    return CalibrationFigures(
        error=distance / tally.judged,
        mean_confidence=sum(counts.confidence for counts in tally.bins) / tally.judged,
        brier=scores.brier / scores.count if scores.count else None,
        log_loss=scores.log_loss / scores.count if scores.count else None,
        scored=scores.count,
    )


def _sets(tally: Tally, confidence: float) -> PredictionSets | None:
    sets = tally.sets
    total = sum(sets.sizes.values())
    abstained = share_of(sets.abstained, total, confidence)
    if abstained is None:
        return None
    return PredictionSets(
        total=total,
        mean_size=sum(size * count for size, count in sets.sizes.items()) / total,
        sizes=dict(sorted(sets.sizes.items())),
        abstained=abstained,
        coverage=share_of(sets.covered, sets.judged, confidence),
        answered=share_of(sets.answered_right, sets.answered, confidence),
    )


def _remarks(tally: Tally, strange: dict[str, int]) -> Iterator[str]:
    unknown = tally.classified - tally.judged
    if tally.judged and unknown:
        yield f"Classified images without a truth, which figures about being right leave out: {unknown:,}."
    if strange:
        yield (
            f"Images whose truth was no label to choose, and which count as mistakes: {sum(strange.values()):,} "
            f"({_some(tally, strange)})."
        )
    if tally.judged and tally.scores.count < tally.judged:
        yield (
            f"Images that the Brier score and the log loss leave out, as not all labels' probabilities are known or "
            f"the truth is not among them: {tally.judged - tally.scores.count:,}."
        )
    if tally.classified and 0 < sum(tally.sets.sizes.values()) < tally.classified:
        yield f"Results without a prediction set: {tally.classified - sum(tally.sets.sizes.values()):,}."
    if len(tally.configurations) > 1:
        yield "The results are not all of one configuration."
