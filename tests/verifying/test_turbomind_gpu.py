"""Verifying a TurboMind preset on a real GPU. Run with ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastinfer.verifying import verify

pytestmark = pytest.mark.gpu

CHECKPOINT = Path(__file__).resolve().parents[2] / "training/embedded"


def test_a_smaller_model_is_measured_and_not_judged() -> None:
    found = verify("prod", kind="classify", model=CHECKPOINT, seconds=5.0)
    assert not found.judged
    assert found.ok
    assert "the model was" in found.not_judged
    assert found.here.device == "cuda:0"
    assert found.here.workload == found.receipt.workload
    assert (found.here.figures.items, found.here.figures.errors) == (found.receipt.workload.items, 0)
    ratios = {check.name: check.ratio for check in found.checks}
    assert ratios["throughput"] > 1, "a model of a few million weights is faster than one of 8 billion"
    assert {check.verdict for check in found.checks} == {"not judged"}
