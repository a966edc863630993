"""A tiny chat model, classifiers, and readings of what is told of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics_page import Page, page

VARIABLES = ("FASTINFER_PRESETS", "FASTINFER_CLASSIFY_MODEL", "FASTINFER_CHAT_MODEL")


@pytest.fixture(scope="session")
def open_chat(babbler: Path) -> Callable[..., Any]:
    """``open_chat(**changes)``: the chat model with two slots; to be closed by the caller."""

    def make(**changes: Any) -> Any:
        import fastinfer

        small = {"n_ctx": 1024, "n_batch": 256, "n_ubatch": 256, "n_threads": 1, "parallel": 2}
        with pytest.MonkeyPatch.context() as patch:
            for name in VARIABLES:
                patch.delenv(name, raising=False)
            return fastinfer.llm(model=babbler, **{**small, "chat_template": "chatml", **changes})

    return make


@pytest.fixture(scope="module", autouse=True)
def nothing_counted() -> None:
    """Engines of other modules that had the names of these are forgotten, whichever ran before in this process."""
    from fastinfer.watching import roll

    roll._roll._closed.clear()


@pytest.fixture
def chat(open_chat: Callable[..., Any]) -> Iterator[Any]:
    """A chat model by the name ``talker``."""
    with open_chat(alias="talker") as loaded:
        yield loaded


@pytest.fixture
def settled() -> Callable[[Callable[[Page], bool]], Page]:
    """``settled(test)``: the metrics once they pass; an answer may be there a moment before it is counted."""

    def wait(test: Callable[[Page], bool]) -> Page:
        end = time.monotonic() + 5
        while not test(found := page()):
            assert time.monotonic() < end, found
            time.sleep(0.01)
        return found

    return wait
