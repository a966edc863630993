"""The user's preset files, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastinfer.machine.checks.presets import check


def test_without_files_all_is_well(bare_account: Path, by_name: Any) -> None:
    (row,) = by_name(check()).values()
    assert (row.area, row.status, row.found) == ("presets", "ok", "none")


def test_valid_files_are_listed(bare_account: Path, by_name: Any) -> None:
    file = bare_account / "fastinfer.toml"
    file.write_text('[chat.mine]\nextends = "balanced"\n', "utf-8")
    (row,) = by_name(check()).values()
    assert (row.status, row.found, row.meaning) == ("ok", str(file), "Valid; 1 preset of your own.")


@pytest.mark.parametrize(
    "text", ["[chat.mine]\nn_ctx = 3\n", "[chat", '[chat.mine]\nextends = "balanced"\nn_ctx = -1\n']
)
def test_a_fault_in_a_file_is_a_failure_with_the_command_that_opens_it(
    bare_account: Path, by_name: Any, text: str
) -> None:
    (bare_account / "fastinfer.toml").write_text('[chat.good]\nextends = "balanced"\n', "utf-8")
    folder = bare_account.parent / "config" / "fastinfer"
    folder.mkdir(parents=True)
    file = folder / "fastinfer.toml"
    file.write_text(text, "utf-8")
    (row,) = by_name(check()).values()
    assert (row.status, row.remedy) == ("fail", f"${{EDITOR:-vi}} {file}")
    assert str(file) in row.meaning


def test_a_variable_that_names_no_file_is_a_failure(
    bare_account: Path, by_name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTINFER_PRESETS", "no-such-file.toml")
    (row,) = by_name(check()).values()
    assert (row.status, row.remedy) == ("fail", "unset FASTINFER_PRESETS")
    assert "no-such-file.toml" in row.meaning
