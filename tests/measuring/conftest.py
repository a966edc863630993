"""A tiny chat model, loaded once; the embedded classifier comes from the fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer
import tiny_chat as tiny


@pytest.fixture(scope="session")
def small_chat() -> fastinfer.Preset:
    """A preset for it; one thread, since several wait for each other when tests run beside other work."""
    changes = {"n_ctx": 2048, "n_batch": 512, "n_ubatch": 512, "n_threads": 1, "chat_template": "chatml"}
    return fastinfer.preset("embedded", kind="chat").replace(**changes)


@pytest.fixture(scope="session")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model with random weights."""
    return tiny.write_babbler(tmp_path_factory.mktemp("babbler") / "babbler.gguf", None)


@pytest.fixture(scope="session")
def llm(babbler: Path, small_chat: fastinfer.Preset) -> Iterator[Any]:
    """Four slots of it."""
    with fastinfer.llm(small_chat, model=babbler) as loaded:
        yield loaded
