from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from cli_text import unboxed
from header_only import write_header

PROD = ("plan", "prod", "--kind", "classify")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a network nor anything in the hub's cache."""
    from huggingface_hub import constants

    folder = str(tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", folder)


def planned(gpu: str) -> fastinfer.Plan:
    return fastinfer.plan("prod", kind="classify", gpu=gpu)


def test_what_fits_is_shown_as_text_and_as_json(run: Any) -> None:
    result = run(*PROD, "--gpu", "RTX 4090")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{planned('RTX-4090')}\n"
    result = run(*PROD, "--gpu", "RTX 4090", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(planned("RTX-4090").to_dict()))


def test_what_does_not_fit_or_run_is_shown_too_and_is_the_exit_code(run: Any) -> None:
    result = run(*PROD, "--gpu", "T4")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == f"{planned('T4')}\n"
    assert "max_batch_size 32 -> 16" in result.stdout
    result = run(*PROD, "--gpu", "cpu", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["fits"] is False
    assert "NVIDIA GPU" in data["obstacle"]


def test_a_model_of_ones_own(run: Any) -> None:
    model = write_header(Path("own.gguf").absolute())
    result = run("plan", "embedded", "--kind", "chat", "--model", "own.gguf", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert (data["model"], data["source"], data["device"]["name"]) == (str(model), "path", "CPU")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*PROD, "--gpu", "A100"), "A100-40GB, A100-80GB"),
        ((*PROD, "--gpu", "RTX-9090"), "No card is known as 'RTX-9090'"),
        ((*PROD, "--model", "org/absent"), "org/absent"),
        (("plan", "balancd"), "balancd"),
    ],
)
def test_what_is_unknown_is_one_line(run: Any, arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_name_of_both_kinds_needs_its_kind(run: Any) -> None:
    result = run("plan", "prod", "--gpu", "H200")
    assert result.exit_code == 2
    assert "--kind classify or --kind chat" in unboxed(result.stderr)


def test_a_terminal_gets_a_table(on_terminal: Any) -> None:
    code, written = on_terminal(80, *PROD, "--gpu", "T4")
    assert code == 1
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in written.splitlines()]
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"\s*label scoring\s+GPU\s+1.0 GiB\s", line) for line in lines)
    assert planned("T4").verdict in lines
    assert "What would make it fit" in lines
