"""The table of what is walked: the documents' ladders are in it, and nothing in it is unknown."""

from __future__ import annotations

from typing import Any

import pytest

import fastinfer
from fastinfer.preset_library import advice, field_docs
from fastinfer.tuning import AIMS, LADDERS
from fastinfer.tuning.candidates import candidates
from fastinfer.tuning.ladders import ladders_for

#: The documents' symptoms, and what is aimed for where they are seen.
SYMPTOMS = {"Throughput low": "throughput", "First token late": "first-token-latency", "Out of memory": "memory"}


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: f"{ladder.backend}-{'-'.join(ladder.fields)}")
def test_a_ladder_is_of_fields_that_there_are_for_aims_that_there_are(ladder: Any) -> None:
    assert set(ladder.fields) <= set(field_docs(ladder.kind, ladder.backend))
    assert ladder.aims
    assert set(ladder.aims) <= set(AIMS)
    assert len(ladder.why.split()) > 4
    assert ladder.why.endswith(".")


@pytest.mark.parametrize(
    ("kind", "backend"), [("chat", "llama.cpp"), ("classify", "llama.cpp"), ("classify", "turbomind")]
)
def test_every_documented_step_is_on_a_ladder(kind: Any, backend: str) -> None:
    for item in advice(kind, backend):
        for step in item.steps if item.symptom in SYMPTOMS else ():
            walked = {
                value(fastinfer.preset("balanced").parameters.model_dump()) if callable(value) else value
                for ladder in LADDERS
                if (ladder.kind, ladder.backend) == (kind, backend)
                and SYMPTOMS[item.symptom] in ladder.aims
                and step.field in ladder.fields
                for value in ladder.values
            }
            given = {fastinfer.preset("prod", kind=kind).parameters.model_dump().get(step.field)}
            # The step that the ladder starts from is the preset's own.
            assert set(step.values) - {32768} <= walked | given, (item.symptom, step.field)


def test_the_documented_order_is_kept() -> None:
    for symptom, aim in SYMPTOMS.items():
        documented = next(a for a in advice("chat", "llama.cpp") if a.symptom == symptom)
        walked = [
            field
            for ladder in ladders_for(fastinfer.preset("balanced"), aim, keep_answers=True)
            for field in ladder.fields
        ]
        places = [walked.index(step.field) for step in documented.steps]
        assert places == sorted(places), symptom


@pytest.mark.parametrize("name", ["balanced", "low-latency", "long-context", "embedded"])
@pytest.mark.parametrize("aim", AIMS)
def test_answers_are_kept_unless_that_is_given_up(name: str, aim: Any) -> None:
    preset = fastinfer.preset(name, kind="chat")
    rank = ["q4_0", "q8_0", "f16", "f32"].index
    for ladder in ladders_for(preset, aim, keep_answers=True):
        for candidate in candidates(preset, preset, ladder, 0):
            assert not {"temperature", "chat_template", "model", "cache_reuse"} & set(candidate.changes)
            assert rank(candidate.changes.get("type_k", preset.type_k)) >= rank(preset.type_k)


def test_a_coarser_cache_is_walked_where_answers_may_change() -> None:
    def fields(name: str, kind: Any, aim: Any, keep: bool) -> set[str]:
        preset = fastinfer.preset(name, kind=kind)
        return {field for ladder in ladders_for(preset, aim, keep_answers=keep) for field in ladder.fields}

    assert "quant_policy" in fields("prod", "classify", "throughput", False)
    assert "quant_policy" not in fields("prod", "classify", "throughput", True)
    assert "type_v" in fields("embedded", "chat", "memory", False)
    assert "type_v" not in fields("embedded", "chat", "memory", True)


def test_threads_are_walked_where_a_cpu_computes_and_exact_caches_where_a_gpu_does() -> None:
    def fields(name: str, kind: Any) -> set[str]:
        found = ladders_for(fastinfer.preset(name, kind=kind), "throughput", keep_answers=True)
        return {field for ladder in found for field in ladder.fields}

    assert "n_threads" in fields("embedded", "chat")
    assert "type_k" not in fields("embedded", "chat")
    assert "n_threads" not in fields("balanced", "chat")
    assert "type_k" in fields("balanced", "chat")
    assert "n_threads" not in fields("prod", "classify")
