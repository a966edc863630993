"""Models with layers that look back on a window only: llama.cpp gives away cells that are out of it."""

from __future__ import annotations

import numpy as np
import pytest

import chat_tools as tools
import tiny_models as tiny

WORDS = ["red", "bird", "fish", "house", "cat", "dog", "What", "is", "this", "user"]


@pytest.fixture(scope="module")
def windowed(tmp_path_factory):
    """Gemma 3 with a window of 16 tokens."""
    return tiny.write_model(tmp_path_factory.mktemp("windowed") / "gemma3", tiny.ARCHITECTURES["gemma3"])


def prompts_of(engine, count):
    random = np.random.default_rng(1)
    start = "<start_of_turn>user\n red bird fish house cat dog What is this user red bird fish"
    texts = [start + " " + " ".join(random.choice(WORDS, random.integers(3, 40))) for _ in range(count)]
    return [tools.request_for(tools.tokens_of(engine, text), max_tokens=8) for text in texts]


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("reuse", [0, 4])
def test_a_beginning_is_shared_only_while_it_is_there(windowed, unified, reuse):
    engine = tools.LlamaChatEngine(tools.config_for(windowed, n_ctx=4096, kv_unified=unified, cache_reuse=reuse))
    generations = prompts_of(engine, 40)
    expected = []
    for generation in generations[:20]:
        fresh = tools.LlamaChatEngine(tools.config_for(windowed, parallel=1))
        expected.append(tools.ask(fresh, generation).state)
        fresh.close()
    if not reuse:  # what is moved is close to what would be computed, not equal
        assert [tools.ask(engine, g).state for g in generations[:20]] == expected
        replies = [tools.send(engine, g) for g in generations[:20]]
        for reply, state in zip(replies, expected, strict=True):
            reply.wait()
            assert reply.state == state
    else:
        for generation in generations:
            tools.ask(engine, generation)
    engine.close()


def test_the_next_turn_goes_on_from_the_one_before(windowed):
    engine = tools.LlamaChatEngine(tools.config_for(windowed))
    first, other = prompts_of(engine, 2)
    tools.ask(engine, first)
    tools.ask(engine, other)
    longer = tools.request_for(np.concatenate([first.tokens, other.tokens]), max_tokens=8)
    reply = tools.ask(engine, longer)
    assert reply.outcome.cached_tokens >= len(first.tokens)
    fresh = tools.LlamaChatEngine(tools.config_for(windowed, parallel=1))
    assert reply.state == tools.ask(fresh, longer).state
    fresh.close()
    engine.close()
