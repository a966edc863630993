"""What is told of engines on a real GPU: its memory, and the images of TurboMind.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import fastinfer
from metrics_page import Page
from turned_samples import turned_samples

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]


def test_images_and_the_memory_of_the_gpu_are_told(settled: Callable[[Callable[[Page], bool]], Page]):
    images = turned_samples(range(0, 40, 4))
    with fastinfer.classifier(
        "prod", model=ROOT / "training/embedded", alias="wall", cache_max_entry_count=0.02, labels=["a car", "a key"]
    ) as classifier:
        list(classifier.classify_many([*images, b"no image"], errors="return"))
        told = settled(lambda told: told["fastinfer:images_total", "wall"] == len(images))
    assert told["fastinfer:errors_total", "wall", "ImageDecodeError"] == 1
    assert told["fastinfer:image_score_seconds_count", "wall"] == len(images)
    used = [value for name, value in told.items() if name[0] == "fastinfer:gpu_memory_used_bytes"]
    total = [value for name, value in told.items() if name[0] == "fastinfer:gpu_memory_total_bytes"]
    assert len(used) == len(total) == 1
    assert 1e9 < used[0] < total[0]
