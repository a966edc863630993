"""The temperature that makes a classifier's probabilities as sure as they are right, and how well they do.

Log-probabilities are divided by it before they become probabilities again: above 1 it makes them less sure, below 1
surer. The order of the labels stays. C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
networks", ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["HIGHEST", "LOWEST", "centred", "expected_calibration_error", "fit_temperature", "log_losses", "shares_at"]

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: The temperatures to choose from.
LOWEST: Final = 0.05
HIGHEST: Final = 20.0

#: Where a label's log-probability ends that an engine gives as minus infinity: below what any real label gets.
_FLOOR: Final = -1e5
#: Halvings of the range of 6 nats between the temperatures' logarithms: they leave less than 1e-11 of it.
_HALVINGS: Final = 40
_BINS: Final = 15


def centred(scores: Doubles) -> Doubles:
    """Log-probabilities with the likeliest label of each image at 0, none below -1e5.

    Args:
        scores: log-probability of each label, (labels,) or (images, labels) float64. An image for which no label has
            any probability has 0 for all.
    """
    peak = scores.max(axis=-1, keepdims=True)
    known = np.isfinite(peak)
    lowered: Doubles = np.where(known, scores, 0.0) - np.where(known, peak, 0.0)
    return np.maximum(lowered, _FLOOR)


def shares_at(scores: Doubles, temperature: float) -> Doubles:
    """Probabilities over the label set at a temperature, shaped like ``scores``; each image's sum to 1."""
    weights: Doubles = np.exp(centred(scores) / temperature)
    shares: Doubles = weights / weights.sum(axis=-1, keepdims=True)
    return shares


def log_losses(scores: Doubles, truth: Places, temperature: float) -> Doubles:
    """Minus the log-probability of each image's right label at a temperature, in nats, (images,) float64.

    Args:
        scores: log-probability of each label, (images, labels) float64.
        truth: the place of each image's right label, (images,).
        temperature: above 0.
    """
    logs = centred(scores) / temperature
    losses: Doubles = np.log(np.exp(logs).sum(axis=-1)) - logs[np.arange(len(logs)), truth]
    return losses


def fit_temperature(scores: Doubles, truth: Places) -> float:
    """The temperature, 0.05 to 20, at which the right labels are likeliest; see the module for the source.

    The log-likelihood is concave in 1 / temperature, so its slope is halved in on. It has no maximum where every image
    is right, because there the surest probabilities fit best. Therefore the mean confidence may become no higher than
    ``(n + 1) / (n + 2)``, which is how sure one may be after n images that were all right, by Laplace's rule of
    succession; a model that was surer by itself keeps temperature 1. A classifier that makes mistakes hardly meets it.

    Args:
        scores: log-probability of each label, (images, labels) float64; at least one image.
        truth: the place of each image's right label, (images,).

    Returns:
        the temperature; 1 where it makes no difference.
    """
    logs = centred(scores)
    right = logs[np.arange(len(logs)), truth]
    surest = (len(logs) + 1) / (len(logs) + 2)

    def slope(sharpness: float) -> float:
        """The mean loss's slope in 1 / temperature; it rises."""
        return float(((shares_at(logs, 1 / sharpness) * logs).sum(axis=1) - right).mean())

    def over_sure(sharpness: float) -> float:
        return float(shares_at(logs, 1 / sharpness).max(axis=1).mean()) - surest

    if slope(1 / HIGHEST) == slope(1 / LOWEST) == 0:
        return 1.0
    likeliest = 1 / _crossing(slope, 1 / HIGHEST, 1 / LOWEST)
    if likeliest >= 1:
        return likeliest
    return max(likeliest, min(1.0, 1 / _crossing(over_sure, 1 / HIGHEST, 1 / LOWEST)))


def expected_calibration_error(confidences: Doubles, right: npt.NDArray[np.bool_]) -> float:
    """How far confidence is from the share that is right, 0 to 1: a mean over 15 bins of confidence, by their images.

    M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015. Of few images it is too large, since each bin's share is then off by chance.

    Args:
        confidences: the probability of each image's likeliest label, (images,), 0 to 1.
        right: whether that label was the right one, (images,).
    """
    bins = np.minimum((confidences * _BINS).astype(np.intp), _BINS - 1)
    gaps = np.bincount(bins, weights=right - confidences, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(confidences))


def _crossing(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises crosses 0, halved in on in the logarithm; the nearer end where it does not."""
    if rising(low) >= 0:
        return low
    if rising(high) <= 0:
        return high
    below, above = math.log(low), math.log(high)
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        if rising(math.exp(middle)) > 0:
            above = middle
        else:
            below = middle
    return math.exp((below + above) / 2)
