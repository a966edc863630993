"""A TurboMind preset that a GPU has too little memory left for. Run with ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastinfer
from fastinfer.errors import EngineOutOfMemoryError
from gpu_memory import other_process_leaves

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "training/embedded"
ROOM = 8 * 2**30
#: Of 8 GiB the cache would leave too little for a pass.
GREEDY = {"cache_max_entry_count": 0.9, "max_batch_size": 32}


def test_it_is_refused_and_the_first_step_that_would_fit_is_named() -> None:
    with (
        other_process_leaves(ROOM),
        pytest.raises(EngineOutOfMemoryError, match=r"The first step that would fit: .*cache_max_entry_count 0.9 -> 0"),
    ):
        fastinfer.classifier("prod", labels=["a car", "a tree"], model=CHECKPOINT, **GREEDY)


def test_documented_steps_are_taken_until_one_fits() -> None:
    asked = fastinfer.preset("prod", kind="classify").replace(**GREEDY)
    with (
        other_process_leaves(ROOM),
        fastinfer.classifier(asked, labels=["a car", "a tree"], model=CHECKPOINT, on_oom="adapt") as adapted,
    ):
        known = adapted.provenance
        steps = {each.field: (each.asked, each.used) for each in known.adjustments if "memory ran short" in each.why}
        assert steps == {"max_batch_size": (32, 16), "cache_max_entry_count": (0.9, 0.2)}
        assert known.fingerprint == asked.fingerprint, "it is still the preset that was asked for"
        assert adapted.classify(ROOT / "src/fastinfer/samples/car.jpg").label == "a car"
