"""Streams: read at any pace, left at any time, told once how they ended."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

from fastinfer import Piece
from fastinfer.errors import EngineDeadError, EngineError, SchemaError


def test_pieces_are_strings_that_print_as_the_text(speakers, start, capsys):
    for piece in speakers["chatml"].stream("hello", **start("plain")):
        assert type(piece) is Piece
        assert piece.kind == "text"
        assert piece.tool_call is None
        print(piece, end="")  # noqa: T201  as users do
    assert capsys.readouterr().out == "Hello, world."


def test_pieces_come_while_the_reply_is_generated(llm, long):
    with llm.stream("hello", **long) as stream:
        next(stream)
        assert sum(slot["is_processing"] for slot in llm.slots()) == 1


def test_no_piece_holds_half_a_character(speakers, start):
    pieces = list(speakers["chatml"].stream("hello", **start("split")))
    assert "".join(pieces) == "café ☃!"
    assert len(pieces) > 1
    assert "\ufffd" not in "".join(pieces)


def test_what_may_belong_to_a_stop_string_waits(speakers, start):
    assert "".join(speakers["chatml"].stream("hello", **start("stop", stop="STOP"))) == "one "
    pieces = list(speakers["chatml"].stream("hello", **start("stop", stop="STOPPED")))
    assert "".join(pieces) == "one STOP two three"
    assert not any(piece.endswith(("S", "ST")) for piece in pieces)


def test_a_slow_reader_loses_nothing_and_holds_nobody_up(llm):
    options = {"seed": 1, "ignore_eos": True, "max_tokens": 60}
    expected = llm.chat("hello", **options)
    stream = llm.stream("hello", **options)
    pieces = [next(stream)]
    begun = time.monotonic()
    assert llm.chat("hello", **options).text == expected.text
    assert time.monotonic() - begun < 5
    for piece in stream:
        pieces.append(piece)
        time.sleep(0.002)
    assert "".join(pieces) == expected.text


def test_a_stream_that_nobody_reads_is_generated_all_the_same(llm, idle):
    stream = llm.stream("hello", seed=1, ignore_eos=True, max_tokens=30)
    idle(llm)
    assert "".join(stream) == llm.chat("hello", seed=1, ignore_eos=True, max_tokens=30).text


def test_streams_side_by_side_do_not_mix(llm):
    options = {"seed": 1, "ignore_eos": True, "max_tokens": 30}
    expected = [llm.chat(f"hello {i}", **options).text for i in range(6)]
    streams = [llm.stream(f"hello {i}", **options) for i in range(6)]
    texts = [""] * 6
    for _ in range(40):
        for i, stream in enumerate(streams):
            texts[i] += next(stream, "")
    assert texts == expected


@pytest.mark.parametrize(
    "how", ["close", "leave the block", "break", "forget", "forget in a cycle", "fail in the block"]
)
def test_an_abandoned_stream_frees_its_slot(llm, long, idle, generated, how):
    before = generated(llm)
    stream = llm.stream("hello", **long)
    next(stream)
    if how == "close":
        stream.close()
    elif how == "leave the block":
        with stream:
            next(stream)
    elif how == "break":
        for _ in stream:
            break
        del stream
    elif how == "forget":
        del stream
    elif how == "forget in a cycle":
        stream.me = stream
        del stream
        gc.collect()
    else:
        with pytest.raises(ZeroDivisionError), stream:
            _ = 1 / 0
    idle(llm)
    assert generated(llm) - before < 2000


def test_streams_that_are_abandoned_before_they_begin_free_the_queue(llm, long, idle, generated):
    before = generated(llm)
    streams = [llm.stream(f"hello {i}", **long) for i in range(40)]
    assert next(streams[0])
    streams.clear()
    idle(llm)
    assert generated(llm) - before < 8000


def test_closing_twice_is_closing_once(llm, long):
    stream = llm.stream("hello", **long)
    stream.close()
    stream.close()
    assert list(stream) == []
    assert stream.reply.finish_reason == "cancelled"


def test_the_reply_is_there_after_the_end(llm, same):
    stream = llm.stream("hello", seed=1)
    text = "".join(stream)
    assert stream.reply.text == text
    assert stream.reply is stream.reply
    same(stream.reply, llm.chat("hello", seed=1))


def test_the_reply_is_not_there_before_the_end(llm, long):
    with llm.stream("hello", **long) as stream:
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.reply
        next(stream)
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = stream.reply


def test_the_reply_of_a_stream_that_was_closed_is_what_there_was(llm, long):
    with llm.stream("hello", **long) as stream:
        pieces = [next(stream) for _ in range(3)]
    reply = stream.reply
    assert reply.finish_reason == "cancelled"
    assert reply.text.startswith("".join(pieces))
    assert reply.error is None
    assert reply.provenance == llm.provenance


def test_closing_after_the_end_keeps_the_whole_reply(llm, idle, same):
    with llm.stream("hello", seed=1) as stream:
        text = "".join(stream)
    assert stream.reply.text == text
    assert stream.reply.finish_reason in ("stop", "length")


def test_iterating_after_the_end_gives_nothing_more(llm):
    stream = llm.stream("hello", seed=1, max_tokens=5)
    assert list(stream)
    assert list(stream) == []
    assert next(stream, None) is None


def test_iterating_after_closing_gives_nothing_more(llm, long):
    stream = llm.stream("hello", **long)
    next(stream)
    time.sleep(0.05)
    stream.close()
    assert list(stream) == []


def test_an_error_comes_after_all_pieces_and_once(speakers, start):
    options = start("json", schema={"type": "object"}, max_tokens=3)
    stream = speakers["chatml"].stream("hello", **options)
    pieces = []
    with pytest.raises(SchemaError, match="before it was complete"):
        pieces.extend(stream)
    assert "".join(pieces) == '{"city": "Paris", "people"'
    assert list(stream) == []
    with pytest.raises(SchemaError):
        _ = stream.reply


def test_an_error_of_the_engine_ends_the_stream(fresh, long):
    llm = fresh(n_ctx=1024)
    stream = llm.stream("hello", **long)
    next(stream)
    llm.close()
    with pytest.raises(EngineDeadError):
        for _ in stream:
            pass
    assert list(stream) == []
    with pytest.raises(EngineDeadError):
        _ = stream.reply
    stream.close()


def test_closing_a_stream_that_failed_keeps_the_error(fresh, long):
    llm = fresh(n_ctx=1024)
    stream = llm.stream("hello", **long)
    llm.close()
    with pytest.raises(EngineError), stream:
        list(stream)
    with pytest.raises(EngineError):
        _ = stream.reply


def test_a_stream_keeps_a_forgotten_model_at_work(babbler):
    import fastinfer

    sizes = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512}
    stream = fastinfer.llm(model=babbler, **sizes).stream("hello", max_tokens=9, ignore_eos=True)
    gc.collect()
    list(stream)
    assert stream.reply.usage.completion_tokens == 9


def test_a_stream_that_has_been_read_is_collected(llm):
    stream = llm.stream("hello", max_tokens=3)
    list(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None


def test_errors_of_the_conversation_come_at_once(llm):
    from fastinfer.errors import MessageError, PromptTooLongError

    with pytest.raises(MessageError):
        llm.stream([{"role": "wizard", "content": "hello"}])
    with pytest.raises(PromptTooLongError):
        llm.stream("hello " * 10_000)


def test_kinds_of_pieces_follow_the_reply(speakers, start, tool):
    pieces = list(speakers["hermes"].stream("hello", **start("hermes", tools=[tool])))
    kinds = [piece.kind for piece in pieces]
    assert sorted(set(kinds)) == ["reasoning", "text", "tool_call"]
    assert kinds == sorted(kinds, key=["reasoning", "text", "tool_call"].index)
    call = pieces[-1]
    assert call == ""
    assert (call.tool_call.name, call.tool_call.arguments) == ("add", {"a": 1, "b": 2})
