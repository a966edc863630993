"""Shares, differences of shares on the same items, and agreement, each with its interval.

All intervals are two-sided, with 95% confidence. Nothing is sampled: equal input gives equal output.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

__all__ = ["PairedDifference", "Share", "cohen_kappa", "mcnemar_p", "paired_difference", "share"]

_Z: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of how many, with the interval of the probability behind it.

    Attributes:
        count: how many.
        total: of how many, at least 1.
        value: ``count / total``, 0 to 1.
        low: lower end of its interval.
        high: upper end.
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%}), {self.count} of {self.total}"


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of two shares over the same items: that of b less that of a.

    Attributes:
        only_a: items that are right with a alone.
        only_b: items that are right with b alone.
        total: all items.
        value: ``(only_b - only_a) / total``, -1 to 1; above 0 where b is right more often.
        low: lower end of the 95% interval.
        high: upper end.
        p: probability of a difference this large or larger if a and b were equally good; see :func:`mcnemar_p`.
    """

    only_a: int
    only_b: int
    total: int
    value: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{_points(self.value)} points ({_points(self.low)} to {_points(self.high)}), exact p {self.p:.3g}"


def share(count: int, total: int, *, confidence: float = 0.95) -> Share:
    """A share with Wilson's score interval.

    The interval holds the probabilities p with ``|count / total - p| <= z sqrt(p (1 - p) / total)``; E. B. Wilson,
    "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212.

    Args:
        count: 0 to ``total``.
        total: at least 1.
        confidence: how often such intervals hold the true share, strictly between 0 and 1.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    value, per = count / total, z * z / total
    centre = value + per / 2
    half = math.sqrt(per * (value * (1 - value) + per / 4))
    # At the ends the two terms are equal, and their difference is not always exactly 0.
    low = 0.0 if count == 0 else (centre - half) / (1 + per)
    high = 1.0 if count == total else (centre + half) / (1 + per)
    return Share(count, total, value, low, high)


def paired_difference(only_a: int, only_b: int, total: int) -> PairedDifference:
    """The difference of two shares on the same items with Tango's score interval and McNemar's exact p.

    The interval holds the differences that a score test does not reject, each tested with the likeliest share of
    discordant items under that difference; T. Tango, "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17 (1998), 891-908. Items on which a and b
    are both right or both wrong count in ``total`` alone. It is among those that M. W. Fagerland, S. Lydersen and P.
    Laake recommend in "Recommended tests and confidence intervals for paired binomial proportions", Statistics in
    Medicine 33 (2014), 2850-2875.

    Args:
        only_a: items that are right with a alone.
        only_b: items that are right with b alone.
        total: all items, at least 1 and at least ``only_a + only_b``.
    """
    value = (only_b - only_a) / total
    return PairedDifference(
        only_a,
        only_b,
        total,
        value,
        -_tango_upper(only_b, only_a, total),
        _tango_upper(only_a, only_b, total),
        mcnemar_p(only_a, only_b),
    )


def mcnemar_p(only_a: int, only_b: int) -> float:
    """McNemar's test, exact and two-sided: twice the tail of Binomial(``only_a + only_b``, 1/2), at most 1.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157. 1.0 where no item is discordant.
    """
    total, fewer = only_a + only_b, min(only_a, only_b)
    if 2 * fewer == total:
        return 1.0
    # Logarithms, because the coefficients of thousands of items exceed a float; terms fall from the largest on.
    term = math.exp(
        math.lgamma(total + 1) - math.lgamma(fewer + 1) - math.lgamma(total - fewer + 1) - total * math.log(2)
    )
    terms = [term]
    for k in range(fewer, 0, -1):
        term *= k / (total - k + 1)
        if term <= 1e-18 * terms[0]:
            break
        terms.append(term)
    return min(1.0, 2 * math.fsum(terms))


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa: agreement beyond that of two raters who give each label as often but at random.

    ``(observed - expected) / (1 - expected)``; J. Cohen, "A coefficient of agreement for nominal scales", Educational
    and Psychological Measurement 20 (1960), 37-46. 1 for complete agreement, 0 for that of chance.

    Args:
        pairs: the two labels of each item.

    Returns:
        kappa; None without items, and where both gave one and the same label throughout, which chance would do too.
    """
    if not pairs:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    total = len(pairs)
    # Counts stay whole numbers, so that complete agreement gives exactly 1.
    expected = sum(count * second[label] for label, count in first.items())
    if expected == total * total:
        return None
    observed = sum(a == b for a, b in pairs) * total
    return (observed - expected) / (total * total - expected)


def _tango_upper(only_a: int, only_b: int, total: int) -> float:
    """The largest difference that the score test does not reject."""
    low, high = (only_b - only_a) / total, 1.0
    # The statistic falls as the difference rises; 60 halvings leave less than a float's precision.
    for _ in range(60):
        middle = (low + high) / 2
        if _tango_statistic(only_a, only_b, total, middle) > -_Z:
            low = middle
        else:
            high = middle
    return high


def _tango_statistic(only_a: int, only_b: int, total: int, difference: float) -> float:
    """Tango's score statistic for a true difference, standard normal if it is that."""
    a = 2 * total
    b = (2 * total - only_b + only_a) * difference - only_a - only_b
    c = -only_a * difference * (1 - difference)
    share_only_a = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = total * (2 * share_only_a + difference * (1 - difference))
    distance = only_b - only_a - total * difference
    return 0.0 if variance <= 0 else distance / math.sqrt(variance)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
