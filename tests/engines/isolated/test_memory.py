"""Memory shared with an engine's process: places do not overlap, come back, and hold what was put there."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.engines.isolated.memory import Arena, SharedView

ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(0, 20_000)), max_size=60)


@given(ACTIONS)
def test_places_keep_what_was_put_there_until_they_are_given_back(actions):
    arena, taken = Arena(200_000), {}
    try:
        view = SharedView(arena.descriptor, writable=False)
        for number, (gives, size) in enumerate(actions):
            if gives and taken:
                arena.give(taken.pop(sorted(taken)[size % len(taken)])[0])
                continue
            offset = arena.take(size)
            if offset is None:
                assert sum(max(4096, used) for _, used in taken.values()) + size > 100_000
                continue
            arena.array(offset, (size,), np.uint8)[:] = number % 251
            taken[number] = offset, size
        for number, (offset, size) in taken.items():
            assert (view.array(offset, (size,), np.uint8) == number % 251).all()
    finally:
        arena.close()


def test_an_image_larger_than_all_places_together_has_one_where_nothing_else_has():
    arena = Arena(10_000)
    first = arena.take(50_000)
    assert first is not None
    assert arena.take(1) is None
    assert arena.take(1, always=True) is not None
    arena.close()


def test_what_the_garbage_collector_gives_back_is_free_for_the_next():
    arena = Arena(8192)
    offset = arena.take(8192)
    assert arena.take(1) is None
    arena.give_later(offset)
    assert arena.take(8192) == offset
    arena.close()


def test_the_child_cannot_write_where_it_only_reads():
    arena = Arena(8192)
    offset = arena.take(16)
    arena.array(offset, (16,), np.uint8)[:] = 5
    seen = SharedView(arena.descriptor, writable=False).array(offset, (16,), np.uint8)
    assert not seen.flags.writeable
    SharedView(arena.descriptor, writable=True).array(offset, (16,), np.uint8)[0] = 9
    assert seen[0] == 9
    arena.close()
    arena.close()


def test_places_that_are_taken_at_once_are_all_taken_or_none_and_alone_may_be_more_than_the_most():
    arena = Arena(3 * 4096)
    both = arena.take_all([4096, 4096])
    assert arena.take_all([4096, 4096]) is None
    assert arena.take(4096) is not None, "nothing was taken of those"
    for offset in both:
        arena.give(offset)
    assert arena.take_all([4096] * 4) is None
    other = Arena(3 * 4096)
    assert len(set(other.take_all([4096] * 4))) == 4
    assert other.take(1) is None
