"""What comes back: plain values that print, pickle and turn into JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
from pydantic import BaseModel

import fastinfer
from fastinfer import ChatTimings, Piece, Reply, ToolCall, Usage
from fastinfer.errors import MessageError


class Answer(BaseModel):
    ok: bool


@dataclasses.dataclass
class Plain:
    ok: bool


@pytest.fixture(scope="module")
def replies(llm, speakers, start, tool):
    """One of each kind."""
    with llm.stream("hello", max_tokens=0, ignore_eos=True) as stream:
        next(stream)
    return {
        "text": llm.chat("hello", seed=1),
        "logprobs": llm.chat("hello", seed=1, logprobs=2),
        "calls": speakers["hermes"].chat("hello", **start("hermes", tools=[tool])),
        "model": llm.chat("hello", schema=Answer, seed=1),
        "dataclass": llm.chat("hello", schema=Plain, seed=1),
        "dict": llm.chat("hello", schema={"type": "boolean"}, seed=1),
        "cancelled": stream.reply,
        "failed": next(llm.chat_many([[123]], errors="return")),
    }


KINDS = ["text", "logprobs", "calls", "model", "dataclass", "dict", "cancelled", "failed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_turns_into_json(replies, kind):
    reply = replies[kind]
    values = json.loads(json.dumps(reply.to_dict(), allow_nan=False))
    assert values["text"] == reply.text == str(reply)
    assert values["finish_reason"] == reply.finish_reason
    assert values["usage"]["total_tokens"] == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert values["model"] == reply.provenance.model
    assert (values["error"] is None) == (kind != "failed") == reply.ok
    assert (values["logprobs"] is None) == (kind != "logprobs")
    if kind in ("model", "dataclass"):
        assert values["parsed"] == {"ok": reply.parsed.ok}
    if kind == "calls":
        assert values["tool_calls"] == [{"id": "call_0", "name": "add", "arguments": {"a": 1, "b": 2}}]


def test_logprobs_in_json(replies):
    reply = replies["logprobs"]
    entries = reply.to_dict()["logprobs"]
    assert [bytes(e["bytes"]) for e in entries] == [p.bytes for p in reply.logprobs]
    assert entries[0]["top"][0] == list(reply.logprobs[0].top[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_survives_pickling_and_copying(replies, kind):
    reply = replies[kind]
    if kind == "failed":
        again = pickle.loads(pickle.dumps(reply))
        assert isinstance(again.error, MessageError)
        assert str(again.error) == str(reply.error)
        again = dataclasses.replace(again, error=reply.error)
        assert again == reply
    elif kind in ("text", "calls", "dict", "logprobs", "cancelled"):
        assert pickle.loads(pickle.dumps(reply)) == copy.deepcopy(reply) == reply


def test_a_reply_cannot_be_changed(replies):
    for value, name in ((replies["text"], "text"), (replies["text"].usage, "prompt_tokens")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 1)


@pytest.mark.parametrize(
    "piece",
    [Piece("text"), Piece("hm", "reasoning"), Piece("", "tool_call", ToolCall("call_0", "add", {"a": 1}, "raw"))],
)
def test_a_piece_survives_pickling_and_copying(piece):
    for again in (pickle.loads(pickle.dumps(piece)), copy.copy(piece), copy.deepcopy(piece)):
        assert type(again) is Piece
        assert (again, again.kind, again.tool_call) == (piece, piece.kind, piece.tool_call)


def test_a_piece_is_a_string():
    piece = Piece("é")
    assert piece == "é"
    assert piece + "!" == "é!"
    assert {piece: 1}["é"] == 1
    assert json.dumps([piece]) == json.dumps(["é"])
    assert not hasattr(piece, "__dict__")


def test_timings_and_usage_add_up(llm):
    reply = llm.chat("hello world", seed=1, max_tokens=20, ignore_eos=True)
    assert isinstance(reply.usage, Usage)
    assert isinstance(reply.timings, ChatTimings)
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 20
    assert 0 <= reply.usage.cached_tokens < reply.usage.prompt_tokens
    timings = reply.timings
    assert timings.queued_ms >= 0
    assert timings.prompt_ms > 0
    assert timings.predicted_ms > 0
    assert timings.tokens_per_second == pytest.approx(19 / timings.predicted_ms * 1e3)
    assert llm.chat("hello", max_tokens=1).timings.tokens_per_second == 0


def test_a_conversation_that_goes_on_is_taken_over(llm):
    messages = [{"role": "user", "content": "hello world " * 20}]
    reply = llm.chat(messages, seed=1)
    turn = llm.chat([*messages, reply.message, {"role": "user", "content": "hello"}], seed=1, max_tokens=1)
    assert turn.usage.cached_tokens >= reply.usage.prompt_tokens - 1


def test_what_ran_is_in_every_reply(llm):
    reply = llm.chat("hello", max_tokens=1)
    assert reply.provenance is llm.provenance
    assert reply.provenance.preset == "embedded"
    assert reply.provenance.fingerprint == llm.preset.fingerprint
    assert reply.provenance.device == "CPU"
    assert "llama" in reply.provenance.engine
    assert reply.error is None


def test_slots_and_metrics_have_llama_servers_names(llm, long):
    with llm.stream("hello", **long) as stream:
        next(stream)
        slots = llm.slots()
    assert [slot["id"] for slot in slots] == [0, 1, 2, 3]
    assert {"id", "n_ctx", "is_processing"} <= set(slots[-1])
    assert all(name.startswith("llamacpp:") for name in llm.metrics())
    assert all(isinstance(value, (int, float)) for value in llm.engine_profile().values())


def test_the_models_repr_says_what_it_is(llm):
    assert repr(llm) == f"<LLM 'embedded': {llm.provenance.model}, 4 slots, CPU>"


def test_the_results_come_from_the_package():
    for name in ("Reply", "Piece", "Usage", "ChatTimings", "ToolCall", "LLM", "ChatOptions"):
        assert name in fastinfer.__all__
    assert Reply("text").message == {"role": "assistant", "content": "text"}
