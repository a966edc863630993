"""A pytest plugin: ``--fault-report PATH`` writes what became of every row of the matrix of faults, as JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fault_matrix import KINDS, Fault
from faults_covered import COVERED

_OUTCOMES: dict[str, str] = {}
_ROWS: dict[tuple[str, str], set[str]] = {}
_COLLECTED: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", metavar="PATH", help="write what became of the matrix of faults there, as JSON")


def _fault(item: pytest.Item) -> Fault | None:
    fault = item.callspec.params.get("fault") if hasattr(item, "callspec") else None
    return fault if isinstance(fault, Fault) else None


def rows_of(session: pytest.Session) -> set[tuple[str, str]]:
    """Kind and name of the rows that this run injects."""
    return {(fault.kind, fault.name) for item in session.items if (fault := _fault(item)) is not None}


def collected_tests() -> set[str]:
    """Names of all tests that this run has collected, without parameters."""
    return set(_COLLECTED)


def pytest_itemcollected(item: pytest.Item) -> None:
    _COLLECTED.add(item.nodeid.partition("[")[0])
    fault = _fault(item)
    if fault is not None:
        _ROWS.setdefault((fault.kind, fault.name), set()).add(item.nodeid)
    for covered in COVERED:
        if item.nodeid.partition("[")[0] in covered.by:
            _ROWS.setdefault((covered.kind, covered.name), set()).add(item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.outcome == "failed" or (hasattr(report, "wasxfail") and report.outcome == "skipped"):
        _OUTCOMES[report.nodeid] = "failing"
    elif report.when == "call" and report.outcome == "passed":
        _OUTCOMES.setdefault(report.nodeid, "survived")


def _outcome(tests: set[str]) -> str:
    """Of a row: failing if one of its tests is; survived if all that ran did; parts that are for a GPU may not run."""
    seen = {_OUTCOMES.get(test, "not run") for test in tests}
    if "failing" in seen:
        return "failing"
    return "survived" if "survived" in seen else "not run"


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--fault-report")
    if path is None:
        return
    found: list[dict[str, Any]] = [
        {
            "kind": kind,
            "name": name,
            "outcome": _outcome(tests),
            "tests": len(tests),
            "ran": sum(test in _OUTCOMES for test in tests),
        }
        for (kind, name), tests in sorted(_ROWS.items(), key=lambda row: (list(KINDS).index(row[0][0]), row[0][1]))
    ]
    counts = {
        kind: dict(
            Counter(row["outcome"] for row in found if row["kind"] == kind),
            rows=sum(row["kind"] == kind for row in found),
            tests=sum(row["ran"] for row in found if row["kind"] == kind),
        )
        for kind in KINDS
    }
    Path(path).write_text(json.dumps({"counts": counts, "rows": found}, indent=1) + "\n", "utf-8")
