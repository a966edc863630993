"""From a ladder to presets: each legal, each different, each with room for the sample."""

from __future__ import annotations

from typing import Any

import pytest

import fastinfer
from fastinfer.tuning import LADDERS, Ladder
from fastinfer.tuning.candidates import candidates, changes_between, with_room

BALANCED = fastinfer.preset("balanced")


def ladder(*fields: str, values: tuple[Any, ...], **options: Any) -> Ladder:
    return Ladder("chat", "llama.cpp", ("throughput",), fields, values, "why", **options)


def names(*made: Any) -> list[dict[str, Any]]:
    return [candidate.changes for candidate in made]


def test_every_value_but_the_presets_own_is_a_candidate() -> None:
    made = candidates(BALANCED, BALANCED, ladder("parallel", values=(4, 8, 16)), 0)
    assert names(*made) == [{"parallel": 4}, {"parallel": 16}]
    assert [candidate.preset.parallel for candidate in made] == [4, 16]


def test_fields_that_go_together_get_the_same_value() -> None:
    made = candidates(BALANCED, BALANCED, ladder("type_k", "type_v", values=("f16",)), 0)
    assert names(*made) == [{"type_k": "f16", "type_v": "f16"}]


@pytest.mark.parametrize(
    ("field", "values", "towards", "expected"),
    [
        ("n_ubatch", (512, 1024, 2048, 4096), "lower", [512, 1024]),
        ("n_ubatch", (512, 1024, 2048, 4096), "higher", [4096]),
        ("type_k", ("q4_0", "q8_0", "f16"), "higher", ["f16"]),
        ("type_k", ("q4_0", "q8_0", "f16"), "lower", ["q4_0"]),
    ],
)
def test_a_direction_leaves_the_others_out(field: str, values: Any, towards: Any, expected: Any) -> None:
    made = candidates(BALANCED, BALANCED, ladder(field, values=values, towards=towards), 0)
    assert [candidate.changes[field] for candidate in made] == expected


def test_changes_are_those_against_the_preset_that_tuning_started_from() -> None:
    best = BALANCED.replace(parallel=16)
    made = candidates(BALANCED, best, ladder("n_ubatch", values=(1024,)), 0)
    assert names(*made) == [{"n_ubatch": 1024, "parallel": 16}]
    assert changes_between(best, best) == {}


def test_an_illegal_value_says_why_it_is() -> None:
    (made,) = candidates(BALANCED, BALANCED, ladder("n_ubatch", values=(8192,)), 0)
    assert made.preset is None
    assert made.changes == {"n_ubatch": 8192}
    assert "n_batch" in made.fault


def test_a_value_can_be_taken_from_the_other_parameters() -> None:
    made = candidates(BALANCED, BALANCED, ladder("prefill_budget", values=(lambda p: p["n_batch"],)), 0)
    assert names(*made) == [{"prefill_budget": 4096}]


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("tokens", [1, 256, 640, 5000])
def test_every_slot_has_room_for_the_longest_conversation(tokens: int, unified: bool) -> None:
    start = BALANCED.replace(kv_unified=unified)
    for made in candidates(start, start, ladder("parallel", values=(1, 4, 9, 32)), tokens):
        assert made.preset is not None
        slot = made.preset.n_ctx // made.preset.parallel
        assert slot >= tokens
        assert made.preset.n_ctx >= start.n_ctx
        assert ("n_ctx" in made.changes) == (made.preset.n_ctx > start.n_ctx)


def test_a_context_that_is_large_enough_stays_as_it_is() -> None:
    values = {"n_ctx": 8192, "parallel": 8}
    assert with_room(values, 0) == with_room(values, 1024) == values
    assert with_room(values, 1025)["n_ctx"] == 8 * 1280


@pytest.mark.parametrize("name", ["balanced", "embedded"])
def test_the_whole_table_gives_presets_or_reasons(name: str) -> None:
    preset = fastinfer.preset(name, kind="chat")
    for entry in LADDERS:
        if entry.kind == "chat":
            for made in candidates(preset, preset, entry, 640):
                assert (made.preset is None) == bool(made.fault)
                assert made.changes
