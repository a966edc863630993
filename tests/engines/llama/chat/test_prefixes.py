"""What two prompts share, against looking token by token."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.engines.llama.chat.prefixes import common_prefix, find_chunk

# Few different tokens, so that there is something in common.
prompts = st.lists(st.integers(0, 2), max_size=30).map(lambda tokens: np.array(tokens, np.int32))


def slow_prefix(left, right):
    length = 0
    while length < min(len(left), len(right)) and left[length] == right[length]:
        length += 1
    return length


@given(prompts, prompts)
def test_the_common_beginning_is_that_of_a_comparison_one_by_one(left, right):
    assert common_prefix(left, right) == common_prefix(right, left) == slow_prefix(left, right)


@given(prompts, st.integers(0, 30))
def test_a_prompt_shares_all_of_what_is_cut_off_it(tokens, length):
    assert common_prefix(tokens, tokens[:length]) == min(length, len(tokens))


@given(prompts, prompts, st.integers(1, 6))
def test_the_first_long_enough_stretch_is_found(kept, wanted, least):
    places = [(p, n) for p in range(len(kept)) if (n := slow_prefix(kept[p:], wanted)) >= least]
    assert find_chunk(kept, wanted, least) == (places[0] if places else (-1, 0))


@given(prompts, prompts)
def test_neither_changes_the_prompts(left, right):
    before = left.copy(), right.copy()
    common_prefix(left, right)
    find_chunk(left, right, 2)
    assert np.array_equal(left, before[0])
    assert np.array_equal(right, before[1])
