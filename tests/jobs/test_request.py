"""Arguments that contradict each other, and those that decide what a job is."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import FastInferError, PresetError
from fastinfer.jobs.configuration import Configuration, configuration, differences
from fastinfer.jobs.output import Shard
from fastinfer.jobs.request import JobRequest


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"top": True}, "top is True"),
        ({"shard": "0/8"}, "no shard '0/8'"),
        ({"shard": (9, 8)}, r"no shard \(9, 8\)"),
        ({"shard": "2 of 8"}, "no shard"),
        ({"kind": "image"}, "no kind 'image'"),
        ({"using": "engine", "preset": "prod"}, "preset was given beside an open engine"),
        ({"using": "engine", "n_ctx": 4}, "A change of the preset was given beside"),
        ({"using": "engine", "strict": True}, "strict was given beside"),
        ({"using": "engine"}, "A str was given for a job that needs a Classifier"),
        ({"kind": "chat", "labels": ["a"]}, "labels was given for a job of prompts"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    photos: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(FastInferError, match=said):
        fastinfer.run(photos, tmp_path / "out.jsonl", **options)


@pytest.mark.parametrize("name", ["out", "out.txt", "out.parquet.gz"])
def test_an_ending_that_says_no_form_is_refused(photos: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(FastInferError, match=r"\.parquet or \.jsonl or \.csv"):
        fastinfer.run(photos, tmp_path / name)


def test_what_is_no_option_is_a_change_of_the_preset(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(PresetError, match="n_cttx"):
        fastinfer.run(photos, tmp_path / "out.jsonl", n_cttx=1)


def test_the_source_says_what_kind_of_job_it_is() -> None:
    assert JobRequest.of("prompts.jsonl", "o", {}).kind == "chat"
    assert JobRequest.of("folder", "o", {}).kind == "classify"
    assert JobRequest.of("prompts.txt", "o", {"kind": "chat"}).kind == "chat"


def test_a_request_has_every_option_of_run() -> None:
    names = set(inspect.signature(fastinfer.run).parameters)
    assert names == set(JobRequest.__dataclass_fields__)


def test_shards_of_a_name_do_not_depend_on_the_machine() -> None:
    assert [Shard(number, 8).has(b"a/0.png") for number in range(1, 9)].index(True) + 1 == 6


def test_whatever_decides_a_result_decides_the_configuration(engine: Any) -> None:
    same = [configuration("classify", engine.preset, engine.provenance, labels=["a"]).key for _ in range(2)]
    assert same[0] == same[1]
    assert len(same[0]) == 16
    other = configuration("classify", engine.preset.replace(prompt="Which?"), engine.provenance, labels=["a"])
    assert other.key != same[0]


def test_a_model_that_was_replaced_is_another_configuration(engine: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "weights.safetensors").write_bytes(bytes(10**6))
    ran = replace(engine.provenance, model=str(tmp_path))
    before = configuration("classify", engine.preset, ran)
    (tmp_path / "weights.safetensors").write_bytes(bytes(10**6 - 1) + b"1")
    after = configuration("classify", engine.preset, ran)
    assert before.key != after.key
    assert differences(before.content, after.content)[0].startswith('files.weights.safetensors: "1000000 bytes')


def test_differences_name_what_differs_and_nothing_else() -> None:
    there = Configuration.of({"a": 1, "preset": {"x": 1, "y": 2}, "fingerprint": "1"})
    here = Configuration.of({"a": 1, "preset": {"x": 1, "y": 3}, "fingerprint": "2", "b": None})
    assert differences(there.content, here.content) == ["preset.y: 2 there, 3 here"]
    assert differences(there.content, there.content) == []
