"""Counts results one by one. What it keeps grows with the labels, not with the results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Final

from fastinfer.images import ImageSource
from fastinfer.reporting.answers import Answer
from fastinfer.reporting.names import folded, shown
from fastinfer.reporting.results import Failure, ShownImage
from fastinfer.reporting.sheet import Shortlist, source_path

__all__ = ["BINS", "TOP", "BinCounts", "ScoreCounts", "SetCounts", "Tally"]

BINS: Final = 10
#: Places among the likeliest labels for which accuracy is counted.
TOP: Final = (3, 5)
#: Images on each half of the contact sheet.
_SHOWN: Final = 24
_CONFIGURATIONS: Final = 8
#: What probabilities that were rounded may lack of 1 without one of them missing.
_ROUNDING: Final = 0.01
#: The least probability that log loss takes the logarithm of: float64's precision.
_LEAST: Final = 2.0**-52


@dataclass(slots=True)
class BinCounts:
    """Images whose confidence is in a range: how many, how many of them are right, and their confidences' sum."""

    count: int = 0
    right: int = 0
    confidence: float = 0.0


@dataclass(slots=True)
class ScoreCounts:
    """Sums of the Brier score and the log loss, over the images that they can be computed for."""

    count: int = 0
    brier: float = 0.0
    log_loss: float = 0.0


@dataclass(slots=True)
class SetCounts:
    """Prediction sets by size; of those with a truth, how many hold it, and how many that answered are right."""

    sizes: Counter[int] = field(default_factory=Counter)
    abstained: int = 0
    judged: int = 0
    covered: int = 0
    answered: int = 0
    answered_right: int = 0


class Tally:
    """The counts of all results so far. Labels are counted in the form in which they are compared.

    Args:
        judging: whether there is a truth; then the bins are over the images that have one.
    """

    def __init__(self, judging: bool) -> None:
        self._judging = judging
        self.total = self.classified = self.judged = self.right = 0
        #: By truth and given label.
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.given: Counter[str] = Counter()
        self.confidence: dict[str, float] = {}
        self.bins = [BinCounts() for _ in range(BINS)]
        self.scores = ScoreCounts()
        self.sets = SetCounts()
        self.top = dict.fromkeys(TOP, 0)
        self.fewest_probabilities, self.most_probabilities = math.inf, 0
        self.failures: dict[str, Failure] = {}
        self.configurations: dict[str, None] = {}
        self.mistakes = Shortlist(_SHOWN)
        self.least_certain = Shortlist(_SHOWN)
        self._offered: set[str] = set()
        self._spelt: dict[str, str] = {}
        self._spelt_in_truth: dict[str, str] = {}

    def add(self, answer: Answer, truth: str | None, image: ImageSource | None) -> None:
        """Count a result.

        Args:
            answer: the result.
            truth: its right label; None where that is not known.
            image: the image, if there is one.
        """
        self.total += 1
        if answer.ran is not None and len(self.configurations) < _CONFIGURATIONS:
            self.configurations[answer.ran] = None
        if answer.label is None:
            self._count_failure(answer)
            return
        self.classified += 1
        self._learn(answer)
        given = folded(answer.label)
        self.given[given] += 1
        self.confidence[given] = self.confidence.get(given, 0.0) + answer.confidence
        expected = None if truth is None else folded(truth)
        right = None if expected is None else given == expected
        if truth is not None and expected is not None:
            self._spelt_in_truth.setdefault(expected, truth)
            self._judge(answer, given, expected)
        if right is not None or not self._judging:
            within = self.bins[min(int(answer.confidence * BINS), BINS - 1)]
            within.count += 1
            within.right += bool(right)
            within.confidence += answer.confidence
        self._count_set(answer, expected, right)
        name = shown(_name(answer.name, self.total - 1, source_path(image)))
        of_truth = None if truth is None else shown(truth)
        candidate = ShownImage(name, shown(answer.label), answer.confidence, of_truth, right)
        self.least_certain.add(answer.confidence, candidate, image)
        if right is False:
            self.mistakes.add(-answer.confidence, candidate, image)

    @property
    def offered(self) -> set[str]:
        """The labels that the results had to choose from, as far as their probabilities tell."""
        return set(map(folded, self._offered))

    def spelling(self, label: str) -> str:
        """A label as the results spell it, else as the truth does."""
        return shown(self._spelt.get(label) or self._spelt_in_truth[label])

    def _learn(self, answer: Answer) -> None:
        new: Iterable[str] = answer.probabilities.keys() - self._offered
        for label in new:
            self._spelt.setdefault(folded(label), label)
        self._offered.update(new)
        assert answer.label is not None
        self._spelt.setdefault(folded(answer.label), answer.label)

    def _judge(self, answer: Answer, given: str, expected: str) -> None:
        self.judged += 1
        self.right += given == expected
        self.pairs[expected, given] += 1
        probabilities = answer.probabilities
        self.fewest_probabilities = min(self.fewest_probabilities, len(probabilities))
        self.most_probabilities = max(self.most_probabilities, len(probabilities))
        of_truth = probabilities.get(self._spelt.get(expected, ""))
        if of_truth is None:
            return
        values = list(probabilities.values())
        place = 0 if given == expected else sum(value > of_truth for value in values)
        for count in TOP:
            self.top[count] += place < count
        if abs(math.fsum(values) - 1) <= _ROUNDING:
            self.scores.count += 1
            squares = math.fsum(value * value for value in values)
            self.scores.brier += squares - of_truth**2 + (1 - of_truth) ** 2
            self.scores.log_loss -= math.log(max(of_truth, _LEAST))

    def _count_set(self, answer: Answer, expected: str | None, right: bool | None) -> None:
        if answer.prediction_set is None:
            return
        self.sets.sizes[len(answer.prediction_set)] += 1
        self.sets.abstained += answer.abstained
        if expected is None:
            return
        self.sets.judged += 1
        self.sets.covered += expected in map(folded, answer.prediction_set)
        if not answer.abstained:
            self.sets.answered += 1
            self.sets.answered_right += bool(right)

    def _count_failure(self, answer: Answer) -> None:
        assert answer.failure is not None
        kind, message = answer.failure
        known = self.failures.get(kind) or Failure(kind, 0, shown(answer.name), message)
        self.failures[kind] = replace(known, count=known.count + 1)


def _name(name: str, place: int, path: str | None) -> str:
    """What tells an image from the others: with the folder it is in, or with its place where it has no file."""
    if name.startswith("<"):
        return f"{place}: {name}"
    return "/".join(PurePath(path).parts[-2:]) if path is not None and "/" not in name else name
