"""The documented steps down, over presets and costs of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinfer
from fastinfer.planning import Need, Part
from fastinfer.planning.ladder import Rung, changes, climb_down

CHAT = fastinfer.preset("balanced", kind="chat")
ORDER = ["n_ubatch", "parallel", "n_ctx"]


def climb(preset: fastinfer.Preset, costs: Callable[[fastinfer.Preset], int]) -> list[Rung]:
    """All rungs, where each preset takes what ``costs`` says of it; they are asked for once."""
    asked: list[str] = []

    def needs(presets: Sequence[fastinfer.Preset]) -> list[Need]:
        asked.append("once")
        assert len({each.fingerprint for each in presets}) == len(presets)
        return [Need.of([Part("weights", costs(each), "gpu", "all")]) for each in presets]

    rungs = list(climb_down(preset, needs, lambda need: need.total("gpu")))
    assert asked == ["once"]
    return rungs


def steps(rungs: list[Rung], preset: fastinfer.Preset) -> list[tuple[dict[str, tuple[Any, Any]], bool]]:
    return [(changes(preset, rung.preset), rung.taken) for rung in rungs]


def test_where_every_step_takes_less_they_add_up() -> None:
    rungs = climb(CHAT, lambda preset: preset.n_ubatch + preset.n_ctx + preset.parallel)
    half = {"n_ubatch": (2048, 1024)}
    six, four = ({**half, "parallel": (8, slots)} for slots in (6, 4))
    assert steps(rungs, CHAT) == [(half, True), (six, True), (four, True), ({**four, "n_ctx": (32768, 16384)}, True)]


def test_a_step_that_takes_no_less_is_passed_over() -> None:
    rungs = climb(CHAT, lambda preset: 10**6 + preset.n_ctx - 10 * preset.parallel)
    assert steps(rungs, CHAT) == [
        ({"n_ubatch": (2048, 1024)}, False),
        ({"parallel": (8, 6)}, False),
        ({"parallel": (8, 4)}, False),
        ({"n_ctx": (32768, 16384)}, True),
    ]


def test_values_that_are_not_smaller_are_left_out() -> None:
    preset = CHAT.replace(n_ctx=20000, n_ubatch=512, parallel=5)
    rungs = climb(preset, lambda preset: preset.n_ctx + preset.parallel)
    assert steps(rungs, preset) == [
        ({"parallel": (5, 4)}, True),
        ({"parallel": (5, 4), "n_ctx": (20000, 16384)}, True),
    ]


def test_a_shorter_context_takes_its_batches_along() -> None:
    preset = CHAT.replace(n_ctx=65536, n_batch=65536, n_ubatch=40000, parallel=1)
    rungs = climb(preset, lambda preset: preset.n_ctx)
    assert [(rung.preset.n_ctx, rung.preset.n_batch, rung.preset.n_ubatch) for rung in rungs if rung.taken] == [
        (32768, 32768, 32768),
        (16384, 16384, 16384),
    ]


@pytest.mark.parametrize(
    ("name", "documented"),
    [
        ("prod", [("max_batch_size", 16), ("cache_max_entry_count", 0.1)]),
        (
            "embedded",
            [("vision_max_batch_size", 4), ("vision_max_batch_size", 1), ("n_ubatch", 1024), ("n_ctx", 4096)],
        ),
    ],
)
def test_classification_has_steps_of_its_own(name: str, documented: list[tuple[str, Any]]) -> None:
    preset = fastinfer.preset(name, kind="classify")
    rungs = climb(preset, lambda each: round(1000 * sum(getattr(each, field) for field in dict(documented))))
    assert all(rung.taken for rung in rungs)
    presets = [preset, *(rung.preset for rung in rungs)]
    lowered = [changes(before, after) for before, after in pairwise(presets)]
    assert [(field, used) for each in lowered for field, (_, used) in each.items()] == documented


@st.composite
def presets(draw: st.DrawFn) -> fastinfer.Preset:
    n_ctx = draw(st.sampled_from([16384, 32768, 40000, 65536]) | st.integers(1, 2**18))
    n_batch = draw(st.integers(1, n_ctx))
    flash_attn = draw(st.booleans())
    unified = draw(st.booleans())
    return CHAT.replace(
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_ubatch=draw(st.integers(1, n_batch)),
        parallel=draw(st.integers(1, 254 if unified else min(n_ctx, 254))),
        kv_unified=unified,
        flash_attn=flash_attn,
        type_v="q8_0" if flash_attn else "f16",
        n_gpu_layers=draw(st.integers(-1, 100)),
    )


@settings(deadline=None)
@given(preset=presets(), seed=st.integers())
def test_every_rung_is_legal_and_raises_no_value(preset: fastinfer.Preset, seed: int) -> None:
    def costs(each: fastinfer.Preset) -> int:
        return random.Random(f"{seed} {each.fingerprint}").randint(1, 9)

    before, least, reached = preset, costs(preset), 0
    for rung in climb(preset, costs):
        assert rung.preset.replace().fingerprint == rung.preset.fingerprint  # all its values are validated again
        lowered = changes(before, rung.preset)
        assert all(used < asked for asked, used in lowered.values())
        step = max(ORDER.index(field) for field in lowered if field in ORDER)
        assert lowered.keys() <= {ORDER[step], *(("n_batch", "n_ubatch") if ORDER[step] == "n_ctx" else ())}
        assert step >= reached
        assert rung.taken == (rung.need.total("gpu") < least)
        if rung.taken:
            before, least = rung.preset, rung.need.total("gpu")
        reached = step
