"""Answers drawn from a known truth, and labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastinfer.calibrating import Calibration
from fastinfer.calibrating.fitting import fit
from turned_samples import sample_files, turned_samples


def draw_answers(seed: int, count: int, labels: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities, (count, labels), and labels that were drawn from them at ``temperature``, (count,)."""
    random = np.random.default_rng(seed)
    logs = random.normal(size=(count, labels)) * 1.5
    logs[np.arange(count), random.integers(0, labels, count)] += 1.5 * random.gamma(2, 1, count)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    # What is the same for all labels of an image, their mass, says nothing.
    return logs * temperature - random.gamma(2, 3, (count, 1)), truth


def fit_answers(said: np.ndarray, truth: Any, coverage: float = 0.9, **changes: Any) -> Calibration:
    """The calibration of answers, for labels that are numbers."""
    given = {
        "skipped": 0,
        "labels": tuple(str(number) for number in range(said.shape[1])),
        "model": "embedded",
        "prompt": "What is this?",
        "preset_fingerprint": "0" * 16,
    }
    return fit(list(said), list(map(int, truth)), coverage=coverage, **{**given, **changes})


@pytest.fixture(scope="session")
def answers() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return draw_answers


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Calibration]:
    return fit_answers


@pytest.fixture(scope="session")
def drawn() -> Calibration:
    """A calibration of 200 answers over 10 labels that were three times too sure."""
    return fit_answers(*draw_answers(1, 200, 10, 3.0))


@pytest.fixture(scope="session")
def sample_labels() -> list[str]:
    return [file.stem.replace("-", " ") for file in sample_files()]


@pytest.fixture(scope="session")
def labelled(sample_labels: list[str]) -> list[tuple[Image.Image, str]]:
    """The samples turned by two angles, so that the model is sometimes wrong."""
    angles = (0, 50)
    return list(zip(turned_samples(angles), sample_labels * len(angles), strict=True))
