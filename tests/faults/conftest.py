"""Engines that rows of the matrix share, and what they answer while nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

#: Exact whatever shares a batch: no rounding in the cache, no flash attention, one thread.
EXACT = {"n_ctx": 1024, "n_batch": 256, "n_ubatch": 256, "type_k": "f32", "type_v": "f32", "flash_attn": False,
         "n_threads": 1, "parallel": 3}  # fmt: skip
ASKED = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, "seed": 1}


def _open(model: Path, **changes: Any) -> Any:
    import fastinfer

    with pytest.MonkeyPatch.context() as patch:
        for name in ("FASTINFER_PRESETS", "FASTINFER_CHAT_MODEL"):
            patch.delenv(name, raising=False)
        return fastinfer.llm(model=model, **{**EXACT, **changes})


@pytest.fixture(scope="session")
def llm(babbler: Path) -> Iterator[Any]:
    """A chat model for rows that neither close nor kill it."""
    with _open(babbler) as loaded:
        yield loaded


@pytest.fixture
def open_llm(babbler: Path) -> Iterator[Callable[..., Any]]:
    """Make chat models of one's own; they are closed after the test."""
    made: list[Any] = []

    def make(**changes: Any) -> Any:
        made.append(_open(babbler, **changes))
        return made[-1]

    yield make
    for loaded in made:
        loaded.close()


@pytest.fixture(scope="session")
def asked() -> dict[str, Any]:
    """``**asked``: options of a short reply that is the same each time."""
    return ASKED


@pytest.fixture(scope="session")
def clf(labels: list[str]) -> Iterator[Any]:
    """A classifier of one thread for rows that neither close nor kill it."""
    import fastinfer

    with fastinfer.classifier(model="embedded", labels=labels, workers=1, n_threads=1) as made:
        yield made


@pytest.fixture(scope="session")
def good(clf: Any, pictures: list[Any]) -> list[Any]:
    """What it says to the pictures."""
    return [clf.classify(picture) for picture in pictures]


@pytest.fixture(scope="session")
def equal() -> Callable[[Any, Any], None]:
    """Check that two things are equal."""

    def check(one: Any, other: Any) -> None:
        assert one == other

    return check
