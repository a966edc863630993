"""``fastinfer tune``: what it asks for, what it shows, what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_text import unboxed
from fastinfer.cli.sample import read_sample
from fastinfer.cli.tune import TuningAim, _limit


@pytest.fixture
def tune(run: Any, samples: Path) -> Any:
    """Run it on a sample with one thread and a budget that is over once the preset itself has been measured."""
    preset = '[classify.small]\nextends = "embedded"\nworkers = 1\nn_threads = 1\n'
    Path("fastinfer.toml").write_text(preset, "utf-8")
    few = ("--images", samples / "car.jpg", "--labels", "car,tree", "--budget", "1")
    return lambda *options: run("tune", "small", *few, *options)


def test_piped_output_is_the_result_as_text(tune: Any) -> None:
    result = tune()
    assert result.exit_code == 0
    assert "Aim: the highest throughput" in result.stdout
    assert "as given" in result.stdout
    assert "the budget ended it" in result.stdout
    assert result.stderr == ""


def test_json_is_what_the_library_returns_the_plot_is_written_and_the_preset_saved(tune: Any) -> None:
    import fastinfer

    pytest.importorskip("matplotlib", reason="plots need the extra tune")
    result = tune("--json", "--plot", "curve.png", "--save", "mine")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["goal"] == {"kind": "classify", "aim": "throughput", "limit": None}
    assert found["points"][0]["verdict"] == "given"
    assert found["receipt"]["command"].endswith(" --save mine --plot curve.png --json")
    assert found["receipt"]["workload"]["labels"] == 2
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")
    assert "saved as mine in" in result.stderr
    assert fastinfer.preset("mine").parameters == fastinfer.preset("small").parameters


@pytest.mark.parametrize(
    ("aim", "limit", "expected"),
    [
        ("memory", "2GiB", 2.0 * 2**30),
        ("memory", "512 MiB", 2.0**29),
        ("inter-token-latency", "40ms", 0.04),
        ("first-token-latency", "0.25 s", 0.25),
        ("first-token-latency", "3", 3.0),
    ],
)
def test_limits_have_units(aim: str, limit: str, expected: float) -> None:
    assert _limit(limit, TuningAim(aim)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give a sample"),
        (("--images", "in", "--prompts", "in.txt"), "not both"),
        (("--images", "in", "--kind", "chat"), "takes --prompts"),
        (("--prompts", "in.txt", "--kind", "classify"), "takes --images"),
        (("--prompts", "none.txt"), "cannot read the prompts file"),
        (("--prompts", "bytes.txt"), "not UTF-8"),
        (("--prompts", "empty.txt"), "no prompts"),
        (("--images", "empty"), "no images"),
        (("--prompts", "in.txt", "--limit", "much"), "give a number"),
        (("--prompts", "in.txt", "--limit", "2GiB"), "not measured in GiB"),
        (("--prompts", "in.txt", "--aim", "memory", "--limit", "5ms"), "not measured in ms"),
        (("--prompts", "in.txt", "--aim", "speed"), "speed"),
        (("--prompts", "in.txt", "--budget", "0"), "budget"),
        (("--prompts", "in.txt", "--plot", "none/curve.png"), "there is no folder"),
        (("--prompts", "in.txt", "--save", "mine"), "has that name"),
        (("--prompts", "in.txt", "--save", ""), "give a name"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(run: Any, arguments: tuple[str, ...], said: str) -> None:
    Path("in.txt").write_text("hello\n", "utf-8")
    Path("bytes.txt").write_bytes(b"\xff\xfe\xff")
    Path("empty.txt").write_text("\n \n", "utf-8")
    Path("empty").mkdir()
    Path("fastinfer.toml").write_text('[chat.mine]\nextends = "embedded"\n', "utf-8")
    result = run("tune", "embedded", *arguments)
    assert result.exit_code == 2
    assert said in unboxed(result.stderr)


def test_an_error_of_the_library_is_one_line(run: Any) -> None:
    Path("in.txt").write_text("hello\n", "utf-8")
    result = run("tune", "embedded", "--prompts", "in.txt", "--model", "none.gguf")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_prompts_are_lines_or_lists_of_messages() -> None:
    chat = [{"role": "user", "content": "hello"}]
    lines = ["\ufeffplain text", "", "[1] is no JSON, but text", json.dumps(chat), json.dumps({"messages": chat})]
    Path("in.txt").write_text("\n".join(lines), "utf-8")
    sample = read_sample(None, "in.txt", None)
    assert sample is not None
    assert sample == ("chat", ["plain text", "[1] is no JSON, but text", chat, chat])
