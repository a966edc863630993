"""What a job waits for, by its measured times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.jobs import bottleneck as words
from fastinfer.jobs.bottleneck import Spent, bottleneck
from fastinfer.jobs.work import Cost

EVERY = {value for name, value in vars(words).items() if name.isupper() and isinstance(value, str)}
PART = st.floats(0, 1)
SPENT = st.builds(
    lambda seconds, workers, shares, counts: Spent(
        group=counts[0],
        decode_workers=workers,
        cores=counts[1],
        seconds=seconds,
        reading=shares[0] * seconds,
        writing=shares[1] * (1 - shares[0]) * seconds,
        computed=counts[2],
        decode_ms=shares[2] * workers * seconds * 1e3,
        queued_ms=shares[3] * 64 * seconds * 1e3,
        engine_ms=shares[4] * 8 * seconds * 1e3,
        prefill_ms=shares[5] * shares[4] * 8 * seconds * 1e3,
    ),
    st.floats(0.01, 1e6),
    st.integers(0, 64),
    st.tuples(PART, PART, PART, PART, PART, PART),
    st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 10**6)),
)
IDLE = Spent(group=8, decode_workers=2, cores=4, seconds=10.0, computed=100)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"computed": 0, "reading": 9.0}, words.NOTHING),
        ({"decode_ms": 19_000, "engine_ms": 6_000}, words.DECODING),
        ({"decode_ms": 19_000, "engine_ms": 6_000, "cores": 2}, words.DECODING_ON_ALL),
        ({"decode_ms": 19_000, "engine_ms": 15_000, "queued_ms": 9_000}, words.DECODING),
        ({"decode_ms": 19_000, "engine_ms": 15_000, "queued_ms": 90_000}, words.ENGINE),
        ({"decode_ms": 2_000, "engine_ms": 9_500}, words.ENGINE),
        ({"decode_workers": 0, "engine_ms": 9_500, "prefill_ms": 8_000}, words.PREFILL),
        ({"decode_ms": 2_000, "engine_ms": 2_000, "reading": 8.0}, words.READING),
        ({"decode_ms": 2_000, "engine_ms": 2_000, "reading": 1.0, "writing": 8.0}, words.WRITING),
    ],
)
def test_what_uses_most_of_its_time_is_the_limit(changes: dict[str, float], said: str) -> None:
    assert bottleneck(replace(IDLE, **changes)) == said


@given(SPENT)
def test_it_is_always_one_of_the_sentences(spent: Spent) -> None:
    assert bottleneck(spent) in EVERY


@given(SPENT, st.sampled_from([0.25, 4.0, 64.0]))
def test_a_job_that_takes_longer_in_all_its_parts_waits_for_the_same(spent: Spent, times: float) -> None:
    names = ("seconds", "reading", "writing", "decode_ms", "queued_ms", "engine_ms", "prefill_ms")
    longer = replace(spent, **{name: getattr(spent, name) * times for name in names})
    assert bottleneck(longer) == bottleneck(spent)


@given(SPENT)
def test_more_images_that_wait_never_move_it_away_from_the_engine(spent: Spent) -> None:
    engine = {words.ENGINE, words.PREFILL}
    if bottleneck(spent) in engine:
        assert bottleneck(replace(spent, queued_ms=spent.queued_ms * 2 + 1)) in engine


@given(st.lists(st.builds(Cost, PART, PART, PART, PART), max_size=20))
def test_costs_add_up(costs: list[Cost]) -> None:
    spent = replace(IDLE, computed=0)
    for cost in costs:
        spent.add(cost)
    assert spent.computed == len(costs)
    assert spent.decode_ms == pytest.approx(sum(cost.decode_ms for cost in costs))
    assert spent.engine_ms == pytest.approx(sum(cost.engine_ms for cost in costs))
