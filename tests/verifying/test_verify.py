from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import fastinfer
import tiny_chat
from fastinfer.errors import PresetError
from fastinfer.measuring import Workload
from fastinfer.preset_library import preset
from fastinfer.verifying import measure, verify
from fastinfer.verifying import verifier as verifier_module


@pytest.fixture(autouse=True)
def account(bare_account: Path) -> Path:
    return bare_account


def small() -> fastinfer.Preset:
    return preset("embedded", kind="classify").replace(workers=1, n_threads=1, decode_workers=1)


def test_the_receipts_work_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (receipt,) = small().receipts
    assert receipt.workload.labels == 10
    less = replace(receipt, workload=replace(receipt.workload, items=8))
    monkeypatch.setattr("fastinfer.preset_library.receipts._receipts", lambda: (less,))
    found = verify(small(), seconds=0.01)
    assert found.receipt == less
    assert found.here.workload == less.workload
    assert (found.here.rounds, found.here.figures.items, found.here.figures.errors) == (1, 8, 0)
    assert found.here.figures.throughput > 0
    assert [check.name for check in found.checks] == ["throughput", "latency_p50", "latency_p95"]
    assert "preset: workers 0 then, 1 in this preset" in found.surroundings


def test_rounds_are_as_many_as_the_time_allows() -> None:
    work = Workload("generated JPEG files of 448 px", 2, labels=2)
    found = measure(small(), work, seconds=30.0, command="test")
    assert found.rounds == 9
    assert found.command == "test"
    assert found.spread["throughput"][0] <= found.figures.throughput <= found.spread["throughput"][1]


def test_a_chat_preset_is_measured_with_prompts_of_its_work(tmp_path: Path) -> None:
    file = tiny_chat.write_babbler(tmp_path / "babbler.gguf", "{{ messages[0].content }}")
    tiny = preset("embedded", kind="chat").replace(n_ctx=1024, n_batch=1024, parallel=2, n_threads=1)
    work = Workload("prompts of 48 tokens, random words", 4, max_tokens=3)
    found = measure(tiny, work, model=file, seconds=0.01, command="test")
    assert found.kind == found.figures.kind == "chat"
    assert found.figures.items == 4
    assert found.figures.concurrency == 2
    assert 0 < found.figures.tokens <= 12


def test_a_preset_without_a_receipt_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinfer.preset_library.receipts._receipts", lambda: ())
    with pytest.raises(PresetError, match="'long-context' of kind 'chat' has no receipt") as caught:
        verify("long-context")
    assert "take_receipt" in str(caught.value)


def test_bad_input_is_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(verifier_module, "measure")
    with pytest.raises(PresetError, match="There is no preset 'balancd'"):
        verify("balancd")
    with pytest.raises(PresetError, match="Both kinds have a preset 'prod'"):
        verify("prod")
    for seconds in (0, -1, float("nan")):
        with pytest.raises(PresetError, match="seconds to measure in"):
            verify("balanced", seconds=seconds)
