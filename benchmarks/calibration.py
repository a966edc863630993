"""Whether prediction sets hold the right label as often as asked, on images that the embedded model was not trained on.

    python benchmarks/calibration.py

The 450 held-out handwritten digits, as they are and with noise that makes the model err. Each is classified once. Then,
a hundred times over, a random half calibrates and the other half is counted: the coverage that was asked for, and
temperature and threshold from the same images beside each from half of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from common import digit_pictures, save, spread
from PIL import Image

import fastinfer
from fastinfer.calibrating import Calibration
from fastinfer.calibrating.conformal import log_odds_against, rank_of
from fastinfer.calibrating.fitting import fit
from fastinfer.calibrating.temperature import expected_calibration_error, fit_temperature, log_losses, shares_at

DIGITS = [str(digit) for digit in range(10)]
COVERAGES = (0.8, 0.9, 0.95)


def noisy(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    """With grey noise over it, and half of its contrast."""
    pixels = np.asarray(picture, np.float64) / 2 + random.normal(64, 60, picture.size[::-1])[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def answers(classifier: Any, pictures: list[Image.Image], truth: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities of the labels, (images, labels), as results show them, and the places of the right ones."""
    rows = []
    for result in classifier.classify_many(pictures, reproducible=True):
        shares = np.array([result.probabilities[digit] for digit in DIGITS])
        rows.append(np.log(np.maximum(shares, np.finfo(np.float64).tiny)))
    return np.array(rows), np.array([DIGITS.index(label) for label in truth])


def counted(scores: np.ndarray, threshold: float, truth: np.ndarray) -> dict[str, float]:
    """Coverage, mean size of a set, and the shares of images that are not answered and that are answered wrong.

    Args:
        scores: log-odds against each label, (images, labels).
        threshold: the highest of a label in a set.
        truth: the place of each right label, (images,).
    """
    within = scores <= threshold
    sizes, held = within.sum(axis=1), within[np.arange(len(truth)), truth]
    answered = sizes == 1
    return {
        "coverage": held.mean(),
        "set_size": sizes.mean(),
        "abstained": 1 - answered.mean(),
        "answered_wrong": (answered & ~held).mean(),
    }


def against(rows: np.ndarray, temperature: float) -> np.ndarray:
    return np.array([log_odds_against(row, temperature) for row in rows])


def calibrated(rows: np.ndarray, truth: np.ndarray) -> Calibration:
    return fit(
        list(rows),
        truth.tolist(),
        skipped=0,
        labels=tuple(DIGITS),
        coverage=0.9,
        model="embedded",
        prompt="",
        preset_fingerprint="",
    )


def halved(rows: np.ndarray, truth: np.ndarray, coverage: float) -> tuple[float, float]:
    """Temperature and threshold, each from half of the images."""
    half = len(rows) // 2
    temperature = fit_temperature(rows[:half], truth[:half])
    own = against(rows[half:], temperature)[np.arange(len(rows) - half), truth[half:]]
    return temperature, float(np.sort(own)[rank_of(len(own), coverage) - 1])


def quality(rows: np.ndarray, truth: np.ndarray, temperature: float) -> dict[str, float]:
    shares = shares_at(rows, temperature)
    right = shares.argmax(axis=1) == truth
    return {
        "log_loss": log_losses(rows, truth, temperature).mean(),
        "calibration_error": expected_calibration_error(shares.max(axis=1), right),
    }


def measure(rows: np.ndarray, truth: np.ndarray, splits: int) -> dict[str, Any]:
    """Figures of all splits: medians with the lowest and highest, of coverage the mean, as promised."""
    random = np.random.default_rng(0)
    sides = ("same_images", "half_each")
    sets: dict[float, dict[str, list[dict[str, float]]]] = {c: {side: [] for side in sides} for c in COVERAGES}
    before, after, temperatures = [], [], []
    for _ in range(splits):
        order = random.permutation(len(rows))
        known, new = np.array_split(order, 2)
        calibration = calibrated(rows[known], truth[known])
        temperatures.append(calibration.temperature)
        before.append(quality(rows[new], truth[new], 1.0))
        after.append(quality(rows[new], truth[new], calibration.temperature))
        scores = against(rows[new], calibration.temperature)
        for coverage in COVERAGES:
            both = sets[coverage]
            both["same_images"].append(counted(scores, calibration.at(coverage).threshold, truth[new]))
            temperature, threshold = halved(rows[known], truth[known], coverage)
            both["half_each"].append(counted(against(rows[new], temperature), threshold, truth[new]))
    return {
        "pictures": len(rows),
        "right": round(float((rows.argmax(axis=1) == truth).mean()), 4),
        "temperature": spread(temperatures),
        "held_out": {"before": _medians(before), "after": _medians(after)},
        "coverage": {
            str(coverage): {
                side: {
                    "mean": round(float(np.mean([one["coverage"] for one in of])), 4),
                    "standard_deviation": round(float(np.std([one["coverage"] for one in of])), 4),
                    **{name: value for name, value in _medians(of).items() if name != "coverage"},
                }
                for side, of in both.items()
            }
            for coverage, both in sets.items()
        },
    }


def end_to_end(classifier: Any, pictures: list[Image.Image], truth: list[str]) -> dict[str, dict[str, float]]:
    """The first half calibrates the classifier, which then classifies the second."""
    half = len(pictures) // 2
    calibration = classifier.calibrate(list(zip(pictures[:half], truth[:half], strict=True)))
    found = {}
    for coverage in COVERAGES:
        classifier.calibration = calibration.at(coverage)
        results = list(classifier.classify_many(pictures[half:]))
        held = [label in result.prediction_set for result, label in zip(results, truth[half:], strict=True)]
        abstained = [result.abstained for result in results]
        found[str(coverage)] = {
            "coverage": round(float(np.mean(held)), 4),
            "abstained": round(float(np.mean(abstained)), 4),
        }
    return found


def _medians(figures: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: spread([float(one[name]) for one in figures]) for name in figures[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=100)
    splits = parser.parse_args().splits
    pictures, truth = digit_pictures()
    random = np.random.default_rng(0)
    variants: dict[str, Callable[[Image.Image], Image.Image]] = {
        "digits": lambda picture: picture,
        "noisy_digits": lambda picture: noisy(picture, random),
    }
    figures: dict[str, object] = {"splits": splits}
    with fastinfer.classifier(labels=DIGITS) as classifier:
        for name, change in variants.items():
            changed = [change(picture) for picture in pictures]
            rows, right = answers(classifier, changed, truth)
            figures[name] = {
                **measure(rows, right, splits),
                "one_split_by_the_classifier": end_to_end(classifier, changed, truth),
            }
            classifier.calibration = None
    save("calibration", "python benchmarks/calibration.py", figures)


if __name__ == "__main__":
    main()
