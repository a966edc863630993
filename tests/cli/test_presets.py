from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fastinfer


@pytest.mark.parametrize("kind", ["classify", "chat", None])
def test_presets_are_listed(run: Any, kind: Any) -> None:
    options = ["--kind", kind] if kind else []
    known = fastinfer.presets(kind)
    result = run("presets", *options)
    assert result.exit_code == 0
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[:5] for row in rows] == [[p.name, p.kind, p.backend, p.model, p.source] for p in known]
    assert all(p.summary.startswith(row[5]) and row[5].endswith(".") for p, row in zip(known, rows, strict=True))

    result = run("presets", "--json", *options)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [p.to_dict() for p in known]


def test_own_presets_are_listed(run: Any) -> None:
    Path("fastinfer.toml").write_text('[chat.mine]\nextends = "balanced"\nsummary = "Mine. All mine."\n', "utf-8")
    (row,) = (line.split("\t") for line in run("presets").stdout.splitlines() if line.startswith("mine"))
    assert "fastinfer.toml" in row[4]
    assert row[5] == "Mine."


def test_a_faulty_file_is_one_line(run: Any) -> None:
    Path("fastinfer.toml").write_text("[chat.mine]\nn_ctx = 3\n", "utf-8")
    result = run("presets")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_explain(run: Any) -> None:
    explanation = fastinfer.preset("balanced").explain()
    result = run("explain", "balanced")
    assert result.exit_code == 0
    assert result.stdout == f"{explanation}\n"
    assert json.loads(run("explain", "balanced", "--json").stdout) == explanation.to_dict()
    expected = str(fastinfer.preset("prod", kind="classify").explain())
    assert run("explain", "prod", "--kind", "classify").stdout == f"{expected}\n"


def test_a_name_that_both_kinds_have_needs_the_kind(run: Any) -> None:
    result = run("explain", "prod")
    assert result.exit_code == 2
    assert "--kind classify or --kind chat" in " ".join(result.stderr.replace("│", " ").split())


def test_a_wrong_name_brings_the_nearest(run: Any) -> None:
    result = run("explain", "blanced")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no preset 'blanced'. Did you mean 'balanced'?")
    assert run("explain", "prod", "--kind", "nonsense").exit_code == 2


def test_a_terminal_gets_tables(on_terminal: Any) -> None:
    code, written = on_terminal(80, "explain", "balanced")
    assert code == 0
    assert "Field and value" in written
    code, written = on_terminal(80, "presets")
    assert code == 0
    assert "chat, llama.cpp, unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL" in written
