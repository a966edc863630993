"""One tiny chat model for all tests, and engines that are closed after them."""

from __future__ import annotations

import pytest

import chat_tools as tools


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """The tiny model; some of its replies end by themselves."""
    return tools.write_chat_model(tmp_path_factory.mktemp("chat") / "tiny.gguf")


@pytest.fixture
def open_engine(model_file):
    """Make engines of one's own; they are closed after the test."""
    made = []

    def make(**changes):
        made.append(tools.LlamaChatEngine(tools.config_for(model_file, **changes)))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture
def open_stepped(model_file):
    """Make engines whose steps the test makes."""
    made = []

    def make(**changes):
        made.append(tools.Stepped(tools.config_for(model_file, **changes)))
        return made[-1]

    yield make
    for stepped in made:
        stepped.close()


@pytest.fixture(scope="session")
def single(model_file):
    """An engine with one slot, that keeps nothing worth speaking of: what a reply is when nothing else runs."""
    engine = tools.LlamaChatEngine(tools.config_for(model_file, parallel=1))
    yield engine
    engine.close()
