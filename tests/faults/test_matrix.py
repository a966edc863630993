"""The matrix itself: every kind has rows, every row has its own name, and every test that a row refers to is there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fault_matrix import KINDS
from fault_report import collected_tests, rows_of
from faults_covered import COVERED

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_is_of_a_known_kind_and_has_its_own_name(request):
    rows = Counter([*((row.kind, row.name) for row in COVERED), *rows_of(request.session)])
    assert {kind for kind, _ in rows} <= set(KINDS)
    assert [row for row, count in rows.items() if count > 1] == []
    assert {row.kind for row in COVERED} == set(KINDS)


def test_every_test_that_a_row_refers_to_is_collected():
    # A run of all tests has collected them; a run of these alone asks for those that it has not.
    names = sorted({name for row in COVERED for name in row.by} - collected_tests())
    if not names:
        return
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider", *names]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    collected = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == set(names)
