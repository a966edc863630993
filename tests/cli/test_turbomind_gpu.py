"""The commands that measure, on a real GPU. Run with ``pytest -m gpu``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastinfer.measuring import Receipt

pytestmark = pytest.mark.gpu

CHECKPOINT = Path(__file__).resolve().parents[2] / "training/embedded"


def test_bench_prints_a_receipt_and_nothing_else() -> None:
    command = ["bench", "prod", "--kind", "classify", "--model", str(CHECKPOINT), "--seconds", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "fastinfer", *command], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    receipt = Receipt.from_dict(json.loads(done.stdout))
    assert receipt.preset == "prod"
    assert receipt.engine.startswith("TurboMind")
    assert receipt.device == "cuda:0"
    assert receipt.figures.errors == 0
    assert receipt.figures.throughput > 0
