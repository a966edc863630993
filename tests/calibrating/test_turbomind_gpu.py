"""Calibration of the prod preset on a real GPU.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import fastinfer
from turned_samples import sample_files, turned_samples

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]


def test_prediction_sets_hold_the_truth_as_often_as_asked():
    labels = [file.stem.replace("-", " ") for file in sample_files()]
    angles = range(-44, 46, 4)
    labelled = [(image, label) for image, label in zip(turned_samples(angles), labels * len(angles), strict=True)]
    seen, held_out = labelled[::2], labelled[1::2]
    with fastinfer.classifier(
        "prod", labels=labels, model=ROOT / "training/embedded", cache_max_entry_count=0.02, dtype="float16"
    ) as classifier:
        plain = classifier.classify(held_out[0][0])
        assert (plain.prediction_set, plain.abstained) == (None, False)
        calibration = classifier.calibrate(seen, coverage=0.9)
        results = list(classifier.classify_many(image for image, _ in held_out))
    held = sum(truth in result.prediction_set for result, (_, truth) in zip(results, held_out, strict=True))
    assert held / len(held_out) >= 0.82
    assert all(result.abstained == (len(result.prediction_set) != 1) for result in results)
    assert all(result.provenance.calibration == calibration.fingerprint for result in results)
