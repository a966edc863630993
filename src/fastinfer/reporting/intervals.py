"""Intervals of shares and of F1, two-sided, at any confidence. Nothing is sampled."""

from __future__ import annotations

from fastinfer.comparing.statistics import Share, share
from fastinfer.reporting.results import Estimate

__all__ = ["f1_estimate", "share_of"]


def share_of(count: int, total: int, confidence: float) -> Share | None:
    """A share with Wilson's score interval.

    Args:
        count: 0 to ``total``.
        total: of how many.
        confidence: how often such intervals hold the true share, strictly between 0 and 1.

    Returns:
        the share; None of nothing.
    """
    return share(count, total, confidence=confidence) if total else None


def f1_estimate(both: int, truth: int, given: int, confidence: float) -> Estimate | None:
    """The F1 score of a label, the harmonic mean of precision and recall, with its interval.

    Of the images that are of the label or were given it, the share that are both is ``F1 / (2 - F1)``. It is a share
    like any other and has Wilson's interval, whose ends are turned back into F1: the indirect method of K. F. Y. Lam,
    V. Gopal and J. Qian, "Confidence intervals for the F1 score: a comparison of four methods", arXiv:2309.14621.

    Args:
        both: images of the label that were given it.
        truth: images of the label.
        given: images that were given the label.
        confidence: as for :func:`share_of`.

    Returns:
        the estimate; None where there is no such image.
    """
    star = share_of(both, truth + given - both, confidence)
    if star is None:
        return None
    value, low, high = (2 * part / (1 + part) for part in (star.value, star.low, star.high))
    return Estimate(value, low, high)
