"""Rows by name, and every row held to what a row promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fastinfer.engines.turbomind.gpus import Gpu
from fastinfer.machine.checks.check import Check

Rows = Callable[[Iterable[Check]], dict[str, Check]]


@pytest.fixture
def by_name() -> Rows:
    """Rows by their name; each says what was found and what it means, and has a remedy where it is not ok."""

    def collect(rows: Iterable[Check]) -> dict[str, Check]:
        found: dict[str, Check] = {}
        for row in rows:
            assert row.name not in found
            assert row.found
            assert row.meaning
            assert bool(row.remedy) == (row.status != "ok"), row
            assert "\n" not in row.remedy
            found[row.name] = row
        return found

    return collect


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write files below a folder that stands for the root of a file system; the folder."""

    def lay_out(files: dict[str, str]) -> Path:
        root = tmp_path / "root"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return root

    return lay_out


@pytest.fixture
def h200() -> Gpu:
    return Gpu(0, "NVIDIA H200", 150_110_011_392, (9, 0))


@pytest.fixture
def p100() -> Gpu:
    return Gpu(1, "Tesla P100-PCIE-16GB", 17_066_885_120, (6, 0))
