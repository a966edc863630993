"""Bytes become text: complete characters, no stop string, nothing held back without need."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.replies.text import ReplyText

# Few letters, so that stop strings occur, overlap and are parts of each other; two take more than one byte.
texts = st.text(alphabet="abä€", max_size=24)
stops = st.lists(st.text(alphabet="abä€", min_size=1, max_size=4), max_size=4)
cuts = st.lists(st.integers(1, 5), max_size=30)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """``data`` cut into pieces of these sizes, the rest last."""
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


def first_stop(text: str, stop: list[str]) -> tuple[str, str | None]:
    """By definition: the text before the earliest stop string, the longest of those at its place."""
    for place in range(len(text)):
        here = [word for word in stop if text.startswith(word, place)]
        if here:
            return text[:place], max(here, key=len)
    return text, None


@settings(deadline=None, max_examples=examples(500))
@given(texts, stops, cuts)
def test_deliveries_are_the_text_up_to_the_first_stop_however_it_is_cut(
    text: str, stop: list[str], sizes: list[int]
) -> None:
    reply = ReplyText(stop)
    delivered = "".join(reply.push(piece) for piece in pieces(text.encode(), sizes)) + reply.finish()
    assert (delivered, reply.stopped) == first_stop(text, stop)


@settings(deadline=None, max_examples=examples(300))
@given(texts, stops, cuts)
def test_only_what_may_become_a_stop_string_is_held_back(text: str, stop: list[str], sizes: list[int]) -> None:
    reply = ReplyText(stop)
    pushed, delivered = b"", ""
    for piece in pieces(text.encode(), sizes):
        pushed += piece
        delivered += reply.push(piece)
        if reply.stopped is None:
            assert not reply.held or any(word.startswith(reply.held) and word != reply.held for word in stop)
            assert delivered + reply.held == pushed.decode(errors="ignore")  # all complete characters


@settings(deadline=None)
@given(st.binary(max_size=30), cuts)
def test_any_bytes_decode_as_they_would_at_once(data: bytes, sizes: list[int]) -> None:
    reply = ReplyText()
    assert "".join(map(reply.push, pieces(data, sizes))) + reply.finish() == data.decode(errors="replace")


def test_a_character_waits_for_its_last_byte() -> None:
    reply = ReplyText()
    assert [reply.push(bytes([byte])) for byte in "€".encode()] == ["", "", "€"]


def test_an_incomplete_character_at_the_end_is_shown_as_a_replacement() -> None:
    reply = ReplyText()
    assert reply.push(b"a\xe2\x82") == "a"
    assert reply.finish() == "\N{REPLACEMENT CHARACTER}"


def test_after_a_stop_string_nothing_is_delivered() -> None:
    reply = ReplyText(["</s>"])
    assert reply.push(b"yes</") == "yes"
    assert reply.push(b"s> and more") == ""
    assert (reply.push(b"more"), reply.finish(), reply.stopped) == ("", "", "</s>")


def test_the_longer_of_two_stop_strings_is_waited_for() -> None:
    reply = ReplyText(["\n", "\n\n"])
    assert reply.push(b"a\n") == "a"
    assert reply.stopped is None
    assert (reply.push(b"\n"), reply.stopped) == ("", "\n\n")


def test_the_shorter_of_two_stop_strings_ends_a_text_that_ends_there() -> None:
    reply = ReplyText(["\n", "\n\n"])
    reply.push(b"a\n")
    assert (reply.finish(), reply.stopped) == ("", "\n")


@pytest.mark.parametrize("stop", [[], [""]])
def test_without_stop_strings_nothing_stops(stop: list[str]) -> None:
    reply = ReplyText(stop)
    assert (reply.push(b"a b"), reply.stopped) == ("a b", None)
