"""A receipt holds what is needed to measure again and compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import PresetError
from fastinfer.measuring import Receipt, take_receipt


@pytest.fixture(scope="module")
def receipt(pictures: list[Any]) -> Receipt:
    preset = fastinfer.preset("embedded", kind="classify").replace(workers=1, n_threads=1)
    return take_receipt(preset, model="embedded", sample=pictures, labels=["line", "red circle"], rounds=2, command="x")


def test_it_says_what_was_measured_and_how(receipt: Receipt) -> None:
    assert (receipt.preset, receipt.kind, receipt.model, receipt.device) == ("embedded", "classify", "embedded", "CPU")
    assert receipt.parameters["workers"] == 1
    assert (
        receipt.fingerprint == fastinfer.preset("embedded", kind="classify").replace(workers=1, n_threads=1).fingerprint
    )
    assert (receipt.workload.items, receipt.workload.labels, receipt.rounds, receipt.command) == (6, 2, 2, "x")
    low, high = receipt.spread["throughput"]
    assert low <= receipt.figures.throughput <= high


def test_it_survives_json(receipt: Receipt) -> None:
    assert Receipt.from_dict(json.loads(json.dumps(receipt.to_dict(), allow_nan=False))) == receipt


@pytest.mark.parametrize("change", [{"figures": ...}, {"workload": 3}, {"spread": {"seconds": [1]}}, {"more": 1}])
def test_what_is_no_receipt_is_refused(receipt: Receipt, change: dict[str, Any]) -> None:
    data = {k: v for k, v in {**receipt.to_dict(), **change}.items() if v is not ...}
    with pytest.raises(PresetError, match="receipt cannot be read"):
        Receipt.from_dict(data)


def test_a_chat_has_one_too(babbler: Path, small_chat: fastinfer.Preset) -> None:
    receipt = take_receipt(small_chat, model=babbler, sample=["hello"], max_tokens=4, rounds=1)
    assert (receipt.kind, receipt.workload.max_tokens, receipt.figures.tokens) == ("chat", 4, 4)
