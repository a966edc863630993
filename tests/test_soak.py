"""Both engines under mixed load for minutes; ``python -m benchmarks.soak`` runs for as long as wanted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psutil")
ROOT = Path(__file__).resolve().parents[1]
MINUTES = 3


@pytest.mark.soak
@pytest.mark.timeout(60 * MINUTES + 600)
def test_answers_stay_right_and_memory_flat(babbler: Path, tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    options = ["--minutes", str(MINUTES), "--threads", "1", "--chat-model", str(babbler), "--output", str(out)]
    # Minutes are too short for a percent an hour; a leak that matters grows by hundreds. Few arenas of glibc's, so that
    # the pictures of each thread have left their largest room behind sooner.
    options += ["--every", "1", "--most", "100", "--gap", "0.05"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.exists(), done.stderr
    found = json.loads(out.read_text("utf-8"))
    assert [name for name, held in found["verdict"].items() if not held] == [], found["faults"]
    assert found["requests"]["answered"] > 1000
    assert done.returncode == 0
