"""A folder of small images, a classifier that computes them in small groups, and jobs that commit at every group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer

LABELS = ["red circle", "blue triangle", "line"]
#: Images that are computed together.
GROUP = 4
#: Several threads wait for each other when tests run beside other work.
OPTIONS = {"vision_max_batch_size": GROUP, "workers": 1, "n_threads": 1}


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """One loaded classifier with groups of four for every test that neither closes nor changes it."""
    with fastinfer.classifier(labels=LABELS, model="embedded", **OPTIONS) as loaded:
        yield loaded


@pytest.fixture
def paint() -> Callable[[Path, int], Path]:
    """``paint(path, seed)`` writes a small PNG file, another one for every seed."""

    def paint(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (seed * 37 % 256, seed * 91 % 256, seed % 256)).save(path, "PNG")
        return path

    return paint


@pytest.fixture
def photos(tmp_path: Path, paint: Callable[[Path, int], Path]) -> Path:
    """Eleven images, one of them twice more and one broken, at several depths, and files that are none."""
    folder = tmp_path / "photos"
    for seed in range(10):
        paint(folder / ("a", "b", "b/c")[seed % 3] / f"{seed}.png", seed)
    paint(folder / "b" / "twin of 0.PNG", 0)
    paint(folder / "z.png", 0)
    (folder / "b" / "broken.png").write_bytes((folder / "z.png").read_bytes()[:45])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


@pytest.fixture
def at_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is committed at the end of every group."""
    monkeypatch.setattr("fastinfer.jobs.runner._COMMIT_EVERY", 0.0)
