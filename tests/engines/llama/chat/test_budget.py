"""How many prompt tokens a step takes, who gets them, and how many rows a step has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.engines.llama.chat.budget import RowPadding, prompt_budget, share, share_apart

pendings = st.lists(st.integers(1, 5000), max_size=12)
budgets = st.integers(0, 4096)


@given(pendings, budgets)
def test_nobody_gets_more_than_it_needs_and_all_together_no_more_than_there_is(pending, budget):
    given_ = share(pending, budget)
    assert len(given_) == len(pending)
    assert all(0 <= got <= need for got, need in zip(given_, pending, strict=True))
    assert sum(given_) == min(budget, sum(pending))


@given(pendings, budgets)
def test_the_one_that_waited_longest_gets_a_quarter(pending, budget):
    if pending:
        assert share(pending, budget)[0] >= min(pending[0], budget / 4)


@given(pendings, budgets)
def test_of_the_others_a_longer_one_gets_something_only_when_the_shorter_ones_are_done(pending, budget):
    later = sorted(zip(pending[1:], share(pending, budget)[1:], strict=True))
    for (need, got), (_, next_got) in pairwise(later):
        assert got == need or next_got == 0 or need == _


@given(st.integers(1, 5000), st.integers(8, 512), st.lists(st.integers(1, 64), min_size=1))
def test_a_long_prompt_gets_done_however_many_short_ones_arrive(long, budget, short):
    steps = 0
    while long:
        long -= share([long, *short], budget)[0]
        steps += 1
    assert steps <= 4 * 5000 / budget + 1


@given(pendings, budgets, st.integers(0, 100), st.randoms())
def test_prompts_computed_apart_get_all_or_nothing_where_one_fits_whole(pending, budget, turn, random):
    places = list(range(len(pending)))
    random.shuffle(places)
    given_ = share_apart(pending, budget, places, turn)
    assert sum(given_) <= min(budget, sum(pending))
    assert all(0 <= got <= need for got, need in zip(given_, pending, strict=True))
    assert not pending or not budget or any(given_)
    pieces = sum(0 < got < need for got, need in zip(given_, pending, strict=True))
    whole = sum(got == need for got, need in zip(given_, pending, strict=True))
    assert pieces <= (0 if whole else 1)


def test_of_prompts_equally_long_neighbours_are_computed_together():
    assert share_apart([512, 508, 512, 508], 1100, [9, 3, 8, 2], turn=1) == [0, 508, 0, 508]
    assert share_apart([512, 508, 512, 508], 1100, [1, 7, 2, 6], turn=1) == [512, 0, 512, 0]
    assert share_apart([580, 508, 580, 508], 1100, [1, 7, 2, 6], turn=1) == [0, 508, 0, 508]
    assert share_apart([900, 508, 100], 1100, [1, 2, 3], turn=1) == [0, 508, 100]


@given(st.integers(100, 5000), st.integers(16, 512), st.lists(st.integers(1, 64), min_size=1, max_size=8))
def test_a_long_prompt_computed_apart_gets_done_however_many_short_ones_arrive(long, budget, short):
    steps = 0
    while long > 0:
        long -= share_apart([long, *short], budget, range(1 + len(short)), turn=steps)[0]
        steps += 1
    assert steps <= 4 * (5000 / budget + 1)


class Machine:
    """A step costs this much, this much more for each reply, and this much for each prompt token."""

    def __init__(self, base=20.0, reply=1.0, prompt=0.5):
        self.base, self.reply, self.prompt = base, reply, prompt

    def seconds(self, decoding, prompt):
        return (self.base + self.reply * decoding + self.prompt * prompt) / 1000


def run(budget, machine, decoding, prompts, steps):
    """The prompt tokens of each step."""
    taken = []
    for _ in range(steps):
        tokens = budget.tokens(decoding, [1000] * prompts)
        budget.observe(decoding, tokens, machine.seconds(decoding, tokens))
        taken.append(tokens)
    return taken


def test_without_replies_a_step_takes_all_that_are_computed_at_once():
    assert prompt_budget(512, 0).tokens(0, [1000] * 3) == 512
    assert prompt_budget(512, 64).tokens(0, [1000] * 3) == 512


def test_a_step_without_prompts_is_measured_before_prompts_join_it():
    budget = prompt_budget(2048, 0)
    assert budget.tokens(7, [1000]) == 0
    budget.observe(7, 0, 0.03)
    assert budget.tokens(7, [1000]) > 0


@pytest.mark.parametrize("decoding", [7, 15, 31])
@pytest.mark.parametrize("prompt_cost", [0.05, 0.3, 1.0])
def test_beside_replies_a_step_takes_about_twice_as_long_as_without(decoding, prompt_cost):
    machine = Machine(prompt=prompt_cost)
    taken = run(prompt_budget(2048, 0), machine, decoding, 1, 60)
    alone = machine.seconds(decoding, 0)
    settled = [machine.seconds(decoding, tokens) for tokens in taken[20:] if tokens]
    assert max(settled) <= 2.1 * alone or max(taken[20:]) == 16
    assert min(settled) >= 1.2 * alone


def test_it_finds_the_cost_of_a_machine_that_became_slower():
    budget = prompt_budget(2048, 0)
    run(budget, Machine(), 7, 1, 60)
    slower = Machine(base=40, prompt=2)
    taken = run(budget, slower, 7, 1, 700)
    assert slower.seconds(7, taken[-1]) <= 2.1 * slower.seconds(7, 0)


def test_the_more_slots_wait_the_longer_a_step_may_take():
    machine = Machine(prompt=0.1)
    few, many = (run(prompt_budget(4096, 0), machine, 4, prompts, 60)[-1] for prompts in (1, 12))
    assert many > 2 * few


def test_a_step_is_never_larger_than_what_is_computed_at_once():
    budget = prompt_budget(256, 0)
    assert max(run(budget, Machine(prompt=0.0001), 8, 8, 80)) <= 256 - 8


def test_a_measured_time_is_taken_again_after_a_while():
    taken = run(prompt_budget(2048, 0), Machine(), 7, 1, 2000)
    assert 1 < taken.count(0) < 20


def test_a_fixed_budget_is_kept():
    assert set(run(prompt_budget(2048, 96), Machine(), 7, 5, 30)) == {96}
    assert prompt_budget(64, 96).tokens(8, [1000]) == 64 - 8


def waiting_budget(**changes):
    """One that has no steps with prompts left."""
    budget = prompt_budget(512, **{"fixed": 1024, "delay": 24, "batch": 4096} | changes)
    for _ in range(10):
        budget.observe(8, 500, 0.1)
    return budget


def test_prompts_that_wait_for_each_other_are_taken_when_one_more_would_not_fit():
    budget = waiting_budget()
    assert budget.tokens(8, [300]) == 0
    assert budget.tokens(8, [300, 300]) == 0
    assert budget.tokens(8, [300, 300, 300]) == 1024
    assert budget.tokens(8, [2000]) == 1024


def test_what_a_step_takes_leaves_room_for_replies_unless_they_have_their_own():
    assert waiting_budget(fixed=0).tokens(8, [5000]) == 4096 - 8
    assert waiting_budget(fixed=0, apart=True).tokens(8, [5000]) == 4096


def test_a_prompt_waits_no_longer_for_others_than_it_is_told():
    budget = waiting_budget(fixed=0)
    for _ in range(2):
        for _ in range(23):
            assert budget.tokens(8, [500]) == 0
            budget.observe(8, 0, 0.05)
        budget.observe(8, 0, 0.05)
        budget.observe(8, 0, 0.05)
        assert budget.tokens(8, [500]) == 4096 - 8
        for _ in range(2):
            budget.observe(8, 500, 0.1)


def test_a_prompt_alone_waits_a_step_for_others_where_there_were_few():
    budget = prompt_budget(512, 1024, delay=24, batch=4096)
    assert budget.tokens(8, [300]) == 0
    budget.observe(8, 0, 0.05)
    assert budget.tokens(8, [300, 200]) == 0, "another came"
    budget.observe(8, 0, 0.05)
    assert budget.tokens(8, [300, 200]) == 1024


@given(st.lists(st.lists(st.integers(1, 400), max_size=3), min_size=200, max_size=300), st.integers(5, 40))
def test_steps_that_prompts_do_not_fill_are_as_rare_as_asked_for(arrivals, delay):
    budget = prompt_budget(512, 0, delay=delay, batch=4096)
    waiting, taken = [], 0
    for new in arrivals:
        waiting += new
        tokens = budget.tokens(8, waiting) if waiting else 0
        prompt = min(tokens, sum(waiting))
        if prompt:
            taken += sum(waiting) + max(waiting) <= 4096 - 8
            waiting = []
        budget.observe(8, prompt, 0.05)
    assert taken <= 4 + len(arrivals) / delay


def test_prompts_wait_for_no_others_where_no_reply_runs():
    budget = prompt_budget(512, 0, delay=24, batch=4096)
    budget.observe(0, 500, 0.1)
    assert budget.tokens(0, [500]) == 512


def test_the_same_size_comes_again_so_that_graphs_can_be_kept():
    wobble = [run(prompt_budget(2048, 0), Machine(base=20 + d / 10), 7, 1, 40)[-1] for d in range(5)]
    assert len(set(wobble)) <= 2


def test_replies_without_room_for_prompts_get_none():
    budget = prompt_budget(8, 0)
    budget.observe(8, 0, 0.01)
    assert budget.tokens(8, [1000]) == 0


#: Tokens a second on an H200 by rows, as measured with a q8_0 cache; those between are interpolated.
H200 = {1: 62, 2: 117, 4: 165, 8: 224, 9: 292, 12: 378}


def test_rows_just_below_a_faster_kernel_are_padded_to_it():
    padding = RowPadding()
    padding.learn([rows / np.interp(rows, list(H200), list(H200.values())) for rows in range(1, 13)])
    assert [padding.rows(rows) for rows in (7, 8)] == [9, 9]
    assert [padding.rows(rows) for rows in (1, 2, 3, 4, 5, 9, 12)] == [1, 2, 3, 4, 5, 9, 12]


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=20))
def test_padding_never_takes_rows_away_nor_makes_a_step_longer(seconds):
    padding = RowPadding()
    padding.learn(seconds)
    for rows in range(1, len(seconds) + 1):
        padded = padding.rows(rows)
        assert rows <= padded <= len(seconds)
        assert seconds[padded - 1] <= seconds[rows - 1]
    assert padding.rows(len(seconds) + 5) == len(seconds) + 5


def test_noise_is_no_reason_to_pad():
    padding = RowPadding()
    padding.learn([0.0300, 0.0298, 0.0299, 0.0297])
    assert [padding.rows(rows) for rows in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_without_a_measurement_nothing_is_padded():
    assert [RowPadding().rows(rows) for rows in (1, 8, 100)] == [1, 8, 100]
