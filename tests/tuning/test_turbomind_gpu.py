"""Tuning TurboMind on a real GPU. Run with ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastinfer
from fastinfer.tuning import Ladder
from turned_samples import turned_samples

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "training/embedded"
LABELS = ["a car", "a fish", "a key", "a mushroom", "a tree"]
BATCHES = Ladder("classify", "turbomind", ("throughput",), ("max_batch_size",), (1, 64), "fewer or more in a pass")
#: No share of the memory is as large, so that every candidate with it fails.
TOO_MUCH = Ladder("classify", "turbomind", ("throughput",), ("cache_max_entry_count",), (0.999,), "more than there is")


def test_candidates_are_loaded_beside_the_best_and_the_result_classifies() -> None:
    sample = turned_samples(range(0, 32, 8))
    given = fastinfer.preset("prod", kind="classify").replace(cache_max_entry_count=0.05, decode_in="threads")
    tuned = fastinfer.tune(
        given,
        sample=sample,
        labels=LABELS,
        model=CHECKPOINT,
        budget=90,
        ladders=[BATCHES, TOO_MUCH],
        progress=False,
    )
    first, *others = tuned.points
    assert first.verdict in ("given", "best")
    verdicts = {point.name: point.verdict for point in others}
    assert verdicts["max_batch_size=1"] == "dropped", verdicts
    failed = next(point for point in others if "cache_max_entry_count" in point.changes)
    assert failed.verdict == "failed"
    assert "does not fit" in failed.why
    assert tuned.gain is not None
    assert tuned.gain >= 1.0
    assert tuned.receipt.device == "cuda:0"
    assert tuned.receipt.figures.errors == 0
    assert tuned.receipt.figures.gpu_memory is not None
    with fastinfer.classifier(tuned.preset, labels=LABELS, model=CHECKPOINT) as classifier:
        assert classifier.classify(ROOT / "src/fastinfer/samples/car.jpg").label == "a car"
