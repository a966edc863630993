"""A tiny chat model and a preset for it, and a tuning that was done once with the embedded classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fastinfer
import tiny_chat as tiny
from fastinfer.tuning import Ladder


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model with random weights."""
    return tiny.write_babbler(tmp_path_factory.mktemp("tuned") / "babbler.gguf", None)


@pytest.fixture(scope="session")
def small_chat() -> fastinfer.Preset:
    """A preset with one slot, which more slots beat; one thread, so that other work disturbs it little."""
    changes = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "n_threads": 1, "parallel": 1, "chat_template": "chatml"}
    return fastinfer.preset("embedded", kind="chat").replace(**changes)


@pytest.fixture(scope="session")
def small_images() -> fastinfer.Preset:
    """A preset for images with one worker of one thread."""
    return fastinfer.preset("embedded", kind="classify").replace(workers=1, n_threads=1, vision_max_batch_size=8)


@pytest.fixture(scope="session")
def tuned(small_images: fastinfer.Preset, pictures: list[Any], labels: list[str]) -> fastinfer.Tuned:
    """Two values tried, one of them not legal."""
    ladder = Ladder("classify", "llama.cpp", ("throughput",), ("vision_max_batch_size",), (1, 0), "fewer at once")
    return fastinfer.tune(
        small_images,
        model="embedded",
        sample=pictures,
        labels=labels,
        budget=20,
        concurrency=2,
        ladders=[ladder],
        progress=False,
        command="a test",
    )
