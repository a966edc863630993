"""Comparing two TurboMind presets on a real GPU. Run with ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastinfer
from fastinfer.comparing import compare
from turned_samples import sample_files, turned_samples

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
#: What some of the samples show.
NAMES = {"car": "a car", "fish": "a fish", "key": "a key", "mushroom": "a mushroom", "tree": "a tree"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Turned samples of five things in a folder each, and a file that is no image."""
    root = tmp_path_factory.mktemp("labelled")
    for angle in range(-12, 16, 4):
        for file, picture in zip(sample_files(), turned_samples([angle]), strict=True):
            label = NAMES.get(file.stem)
            if label is not None:
                where = root / label
                where.mkdir(exist_ok=True)
                picture.save(where / f"{angle}.png")
    (root / "a tree/damaged.png").write_bytes(b"no image")
    return root


def test_prod_and_prod_exact_agree_side_by_side(folder: Path) -> None:
    # As the model was trained to be asked.
    prod, exact = (
        fastinfer.preset(name, kind="classify").replace(prompt="What is this?") for name in ("prod", "prod-exact")
    )
    found = compare(prod, exact, folder, model=ROOT / "training/embedded")
    assert found.at_once
    assert found.labels == tuple(sorted(NAMES.values()))
    assert len(found.images) == 7 * len(NAMES) + 1
    assert (found.a.failed, found.b.failed) == (1, 1)
    assert found.a.accuracy is not None
    assert found.a.accuracy.value > 0.9
    assert found.accuracy_difference is not None
    assert abs(found.accuracy_difference.value) < 0.1
    assert found.agreement.value > 0.95
    for side in (found.a, found.b):
        assert side.provenance.device == "cuda:0"
        assert side.images_per_second > 0
        assert side.gpu_memory is not None
        assert side.gpu_memory > 2**30, "a fifth of what is free"
