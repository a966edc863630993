"""Messages between an engine's process and its parent, however their bytes arrive, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer import errors
from fastinfer.engines.isolated.failures import read_failure, write_failure
from fastinfer.engines.isolated.messages import DamagedStreamError, MessageReader, encode
from fastinfer.errors import EngineError, FastInferError, PromptTooLongError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
MESSAGES = st.lists(st.tuples(st.dictionaries(st.text("xyz", max_size=3), JSON, max_size=4), st.binary(max_size=50)))


@given(MESSAGES, st.lists(st.integers(1, 40), min_size=1))
def test_they_arrive_as_they_were_sent_in_whatever_pieces(messages, sizes):
    data = b"".join(encode(body, blob) for body, blob in messages)
    reader, read, at, turn = MessageReader(), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        read += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert read == messages


@given(st.binary(min_size=8, max_size=200))
def test_bytes_that_are_no_messages_are_refused_or_waited_for(data):
    reader = MessageReader()
    try:
        for body, blob in reader.feed(data):
            assert isinstance(body, dict)
            assert isinstance(blob, bytes)
    except DamagedStreamError:
        pass


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"PromptTooLongError"}))
def test_every_error_of_the_library_is_the_same_on_the_other_side(name):
    error = getattr(errors, name)("What happened.", hint="What to do.")
    error.__cause__ = OSError("why")
    read = read_failure(write_failure(error))
    assert type(read) is type(error)
    assert isinstance(read, FastInferError)
    assert (read.message, read.hint) == ("What happened.", "What to do.")
    assert "OSError: why" in str(read.__cause__)


def test_a_prompt_that_is_too_long_still_says_by_how_much():
    read = read_failure(write_failure(PromptTooLongError("Too long.", tokens=9, limit=7)))
    assert isinstance(read, PromptTooLongError)
    assert (read.tokens, read.limit) == (9, 7)


def test_a_foreign_error_becomes_one_of_the_engine():
    read = read_failure(write_failure(ZeroDivisionError("division by zero")))
    assert type(read) is EngineError
    assert "ZeroDivisionError: division by zero" in str(read)
