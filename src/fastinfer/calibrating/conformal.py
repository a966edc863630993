"""Prediction sets that hold the right label as often as asked, whatever the model: split conformal prediction.

A label's score is the log-odds against it, ``log((1 - p) / p)``, so it is in the set where p is high enough. That is
the score of M. Sadinle, J. Lei and L. Wasserman, "Least ambiguous set-valued classifiers with bounded error levels",
JASA 114 (2019), who take 1 - p; the order is the same, and the logarithm tells probabilities apart that a float rounds
to 1. Where the probabilities are right, no other score has smaller sets on average. It needs no random numbers, as the
adaptive sets APS and RAPS do, so an image's set is always the same. A set may be empty: the model is less sure of every
label than it is of the right one elsewhere.

The threshold is the score of rank ``ceil((n + 1) coverage)`` among n labelled images. For images like those, the set
then holds the right label with a probability of ``coverage`` at least, and at most 1 / (n + 1) more where no two scores
are equal: V. Vovk, A. Gammerman and G. Shafer, "Algorithmic learning in a random world", Springer 2005; A. N.
Angelopoulos and S. Bates, "A gentle introduction to conformal prediction and distribution-free uncertainty
quantification", arXiv:2107.07511 (2021). That is on average over draws of the n images; with one draw the coverage is
off by about ``sqrt(coverage (1 - coverage) / n)``.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fastinfer.calibrating.temperature import centred
from fastinfer.errors import LabelError, PresetError

__all__ = ["check_coverage", "least_probability", "log_odds_against", "rank_of"]

Doubles = npt.NDArray[np.float64]


def log_odds_against(scores: Doubles, temperature: float) -> Doubles:
    """``log((1 - p) / p)`` of each label, finite, (labels,) float64.

    Args:
        scores: log-probability of each label of one image, (labels,) float64; at least two.
        temperature: what they are divided by before p is made of them.
    """
    logs = centred(scores) / temperature
    top = int(logs.argmax())
    weights = np.exp(logs)
    # All weights but its own; the likeliest label's is 1 and would drown the others.
    others = np.log(np.maximum(weights.sum() - weights, weights[top]))
    rest = np.delete(logs, top)
    second = rest.max()
    others[top] = second + np.log(np.exp(rest - second).sum())
    against: Doubles = others - logs
    return against


def least_probability(score: float) -> float:
    """The probability whose log-odds against are ``score``."""
    return 1 / (1 + math.exp(score)) if score < 0 else math.exp(-score) / (1 + math.exp(-score))


def rank_of(count: int, coverage: float) -> int:
    """Which of the right labels' scores is the threshold, counted from the lowest, 1; see the module.

    Args:
        count: labelled images.
        coverage: between 0 and 1, both excluded.

    Raises:
        PresetError: ``coverage`` is no such number.
        LabelError: there are fewer images than the coverage needs, ``coverage / (1 - coverage)``. A set of all labels
            would be the only one that keeps it, and never an answer.
    """
    share = check_coverage(coverage)
    rank = math.ceil((count + 1) * share)
    if rank > count:
        raise LabelError(
            f"A coverage of {coverage:g} needs at least {math.ceil(share / (1 - share))} labelled images; there are"
            f" {count}.",
            hint="Label more images, or ask for less coverage.",
        )
    return rank


def check_coverage(coverage: float) -> Fraction:
    """The coverage as it was written: 0.9 is nine tenths, which the float is only nearly.

    Raises:
        PresetError: it is no number between 0 and 1.
    """
    if isinstance(coverage, bool) or not isinstance(coverage, (int, float)) or not 0 < coverage < 1:
        raise PresetError(
            f"The coverage {coverage!r} is not legal.",
            hint="Give the share of images whose set is to hold the right label: above 0 and below 1, such as 0.9.",
        )
    return Fraction(repr(float(coverage)))
