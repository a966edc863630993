from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_text import unboxed
from fastinfer.preset_library import preset


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt's work with fewer images, and a rate that cannot be reached here or is easily."""
    (receipt,) = preset("embedded", kind="classify").receipts
    less = replace(receipt, workload=replace(receipt.workload, items=4))
    monkeypatch.setattr("fastinfer.preset_library.receipts._receipts", lambda: (less,))


def test_json_is_the_verification(run: Any) -> None:
    result = run("verify", "embedded", "--kind", "classify", "--seconds", "1", "--json")
    data = json.loads(result.stdout)
    assert (data["preset"], data["kind"]) == ("embedded", "classify")
    assert data["here"]["figures"]["items"] == 4
    assert result.exit_code == (0 if data["ok"] else 1)


def test_a_clearly_slower_machine_is_the_exit_code(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastinfer.verifying.verification._obstacles", lambda *_: iter(()))
    (receipt,) = preset("embedded", kind="classify").receipts
    fast = replace(receipt, figures=replace(receipt.figures, throughput=1e9), spread={})
    monkeypatch.setattr("fastinfer.preset_library.receipts._receipts", lambda: (fast,))
    result = run("verify", "embedded", "--kind", "classify", "--seconds", "1")
    assert result.exit_code == 1
    assert result.stdout.startswith("embedded (classify): clearly slower than measured before")
    assert result.stderr == "error: embedded is clearly slower here than when its receipt was taken.\n"


def test_a_preset_without_a_receipt_is_one_line(run: Any) -> None:
    Path("fastinfer.toml").write_text('[chat.mine]\nextends = "balanced"\nparallel = 12\n', "utf-8")
    result = run("verify", "mine")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The preset 'mine' of kind 'chat' has no receipt to verify.")


def test_a_name_of_both_kinds_needs_its_kind(run: Any) -> None:
    result = run("verify", "prod")
    assert result.exit_code == 2
    assert "--kind classify or --kind chat" in unboxed(result.stderr)
