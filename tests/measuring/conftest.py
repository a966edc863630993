"""A tiny chat model, loaded once; the embedded classifier comes from the fixtures of all tests."""

from __future__ import annotations

import gc
import threading
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


@pytest.fixture
def swallowed_interrupt() -> Iterator[list[str]]:
    """In 0.2 s Ctrl-C comes in the midst of a garbage collection, to a callback of it, where Python loses it."""
    pressed: list[str] = []

    def callback(phase: str, _: dict[str, int]) -> None:
        if phase == "stop" and threading.current_thread() is collecting:
            pressed.append(phase)
            raise KeyboardInterrupt

    collecting = threading.Timer(0.2, gc.collect)
    gc.callbacks.append(callback)
    collecting.start()
    yield pressed
    collecting.join()
    gc.callbacks.remove(callback)
