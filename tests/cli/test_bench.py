"""``fastinfer bench``: figures of a preset here."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from cli_text import unboxed
from fastinfer.measuring import Receipt


@pytest.fixture
def bench(run: Any, samples: Path) -> Any:
    """Run it on the samples, with one thread, since several wait for each other when tests run beside other work."""
    preset = '[classify.small]\nextends = "embedded"\nworkers = 1\nn_threads = 1\n'
    Path("fastinfer.toml").write_text(preset, "utf-8")
    return lambda *options: run("bench", "small", "--images", samples, "--labels", "car,tree", *options)


def test_piped_output_is_lines_of_figures(bench: Any) -> None:
    result = bench("--rounds", "2")
    assert result.exit_code == 0
    rows = dict(line.split("\t", 1) for line in result.stdout.splitlines())
    median, low, high = map(float, rows["throughput, images/s"].split("\t"))
    assert low <= median <= high
    assert rows["errors"] == "0\t0\t0"
    assert rows["latency_p95, one at a time"].count(" ms") == 3
    assert "small (classify): model embedded, llama.cpp" in result.stderr
    assert "12 items a round, 2 rounds" in result.stderr


def test_json_is_a_receipt(bench: Any, samples: Path) -> None:
    result = bench("--rounds", "1", "--json", "--concurrency", "2")
    assert result.exit_code == 0
    receipt = Receipt.from_dict(json.loads(result.stdout))
    assert (receipt.workload.concurrency, receipt.workload.labels, receipt.rounds) == (2, 2, 1)
    images = shlex.quote(str(samples))
    assert receipt.command == (
        f"fastinfer bench small --images {images} --labels car,tree --concurrency 2 --rounds 1 --json"
    )


@pytest.mark.slow
def test_without_a_sample_the_work_is_made_here(run: Any) -> None:
    result = run("bench", "embedded", "--kind", "classify", "--seconds", "0.1", "--json")
    assert result.exit_code == 0
    assert "generated" in Receipt.from_dict(json.loads(result.stdout)).workload.name


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing", "--kind", "chat"), 1, "no preset"),
        (("embedded",), 1, "Both kinds have a preset"),
        (("embedded", "--images", "missing.png"), 1, "no such file"),
        (("embedded", "--images", "a", "--prompts", "b"), 2, "not both"),
        (("embedded", "--kind", "classify", "--labels", "a,b"), 2, "--images"),
    ],
)
def test_what_cannot_be_measured_is_said(run: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run("bench", *arguments)
    assert result.exit_code == code
    assert said in unboxed(result.stderr)
