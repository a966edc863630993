"""Two things measured in turns, so that a machine that slows down slows both, and when one of them is better."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

__all__ = ["LEAST_GAIN", "Paired", "alternate", "judge"]

Measured = TypeVar("Measured")

#: What is less than this is not worth another setting, however sure it is.
LEAST_GAIN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Paired:
    """What the ratios of several rounds say.

    Attributes:
        ratios: of each round, the second's figure by the first's; above 1 the second is better.
        median: of the ratios.
        margin: how far from 1 the median has to be, to count.
        verdict: ``"better"`` or ``"worse"`` where the second is, else ``"undecided"``; always that for one round.
    """

    ratios: tuple[float, ...]
    median: float
    margin: float
    verdict: Literal["better", "worse", "undecided"]


def alternate(
    first: Callable[[], Measured], second: Callable[[], Measured], rounds: int
) -> list[tuple[Measured, Measured]]:
    """Call both once a round, in the order ab, ba, ab and so on, which cancels a steady drift.

    Args:
        first, second: what to call; each returns its measurement.
        rounds: how often, at least once.

    Returns:
        The pair (first, second) of each round.
    """
    pairs = []
    for number in range(rounds):
        if number % 2:
            after = second()
            pairs.append((first(), after))
        else:
            before = first()
            pairs.append((before, second()))
    return pairs


def judge(ratios: Sequence[float]) -> Paired:
    """Whether the second of two is better, by the ratios of their figures within each round.

    The median must differ from 1 by :data:`LEAST_GAIN`, and by twice the standard error of the rounds. That is taken as
    their range divided by their number: the range of n values of a normal distribution is about the square root of n
    standard deviations for n from 2 to 10 (the constant d2 of control charts), and the error of their mean a standard
    deviation divided by that root.

    Args:
        ratios: at least one; of one round nothing is concluded, since it has no spread.
    """
    median = statistics.median(ratios)
    margin = max(LEAST_GAIN, 2 * (max(ratios) - min(ratios)) / len(ratios))
    verdict: Literal["better", "worse", "undecided"] = "undecided"
    if len(ratios) > 1 and abs(median - 1) > margin:
        verdict = "better" if median > 1 else "worse"
    return Paired(tuple(ratios), median, margin, verdict)
