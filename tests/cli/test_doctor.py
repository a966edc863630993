from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

STATUSES = {"ok", "warn", "fail"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_CACHE", str(tmp_path / "cache"))


def test_each_check_is_a_line_of_cells_without_a_terminal(run: Any) -> None:
    result = run("doctor", "--no-network")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert {len(row) for row in rows} == {6}
    assert {row[0] for row in rows} <= STATUSES
    assert all(bool(remedy) == (status != "ok") for status, *_, remedy in rows)
    assert ["ok", "presets", "preset files", "none"] in [row[:4] for row in rows]
    assert any(row[2] == "hub" and row[3].endswith(("not asked", "by choice")) for row in rows)


def test_a_failure_is_the_exit_code(run: Any) -> None:
    Path("fastinfer.toml").write_text("[chat.mine]\nn_ctx = 3\n", "utf-8")
    result = run("doctor", "--no-network", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["ok"] is False
    (row,) = [row for row in data["checks"] if row["status"] == "fail"]
    assert (row["area"], row["name"]) == ("presets", "preset files")
    assert str(Path("fastinfer.toml").absolute()) in row["remedy"]


def test_a_terminal_gets_a_table_and_whole_commands(on_terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_PRESETS", "no-such-file.toml")
    code, written = on_terminal(80, "doctor", "--no-network")
    assert code == 1
    lines = [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in written.splitlines()]
    commands = lines.index("preset files: unset FASTINFER_PRESETS")
    assert max(map(len, lines[:commands])) <= 80
    assert any(re.fullmatch(r"\s*preset files\s+fail\s+not to be read", line) for line in lines[:commands])
    assert any(line.endswith("1 failed") for line in lines[:commands])
