"""``fastinfer classify DIR -o FILE``: a job."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli_text import unboxed

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def photos(samples: Path) -> Path:
    for name in ("7.png", "b/3.png", "b/tree.jpg"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(samples / Path(name).name, Path("photos", name))
    shutil.copy("photos/7.png", "photos/b/again.png")
    return Path("photos")


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_a_folder_becomes_one_file_and_a_summary(run: Any, photos: Path) -> None:
    result = run("classify", photos, "--labels", "3,7,tree", "-o", "out.jsonl", "--top", "1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "4 images: 3 computed, 0 known from before, 1 copies of others, 0 with an error." in result.stderr
    assert [(row["path"], list(row["probabilities"])) for row in rows("out.jsonl")] == [
        *(("7.png", ["7"]), ("b/3.png", ["3"]), ("b/again.png", ["7"]), ("b/tree.jpg", ["tree"])),
    ]


def test_json_is_one_line_that_says_how_it_went(run: Any, photos: Path) -> None:
    result = run("classify", photos, "--output", "out.csv", "--json", "--shard", "2/2", "--limit", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    (summary,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert summary["output"] == "out-00002-of-00002.csv"
    assert (summary["total"], summary["computed"]) == (1, 1)
    with Path(summary["output"]).open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 1


def test_files_are_a_job_too_and_one_that_fails_is_a_row(run: Any, photos: Path) -> None:
    Path("bad.png").write_bytes(b"no image")
    arguments = ("classify", photos / "7.png", "bad.png", "-o", "out.jsonl")
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.endswith("error: 1 of 2 images could not be classified.\n")
    assert [row["error_type"] for row in rows("out.jsonl")] == [None, "ImageDecodeError"]
    again = json.loads(run(*arguments, "--json").stdout)
    assert (again["computed"], again["reused"]) == (0, 2)
    retried = json.loads(run(*arguments, "--json", "--retry-errors").stdout)
    assert (retried["computed"], retried["reused"]) == (1, 1)


def test_other_labels_do_not_replace_an_output_unless_told_to(run: Any, photos: Path) -> None:
    assert run("classify", photos, "--labels", "3,7", "-o", "out.jsonl").exit_code == 0
    arguments = ("classify", photos, "--labels", "3,8", "-o", "out.jsonl")
    refused = run(*arguments)
    assert refused.exit_code == 1
    assert 'labels: ["3", "7"] there, ["3", "8"] here' in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert run(*arguments, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos", "--limit", "1"], "--limit is for jobs: give --output FILE too"),
        (["photos", "--retry-errors"], "--retry-errors is for jobs"),
        (["photos", "--overwrite"], "--overwrite is for jobs"),
        (["photos", "--shard", "1/2"], "--shard is for jobs"),
        (["photos", "--calibration", "c.json"], "--calibration is for jobs"),
        (["photos", "-o", "out.csv", "--shard", "3/2"], "no shard '3/2'"),
        (["photos", "-o", "out.csv", "--limit", "0"], "--limit"),
        (["photos", "photos/7.png", "-o", "out.csv"], "one folder, or files"),
        (["-", "-o", "out.csv"], "one folder, or files"),
    ],
)
def test_what_is_not_understood_exits_with_2(run: Any, photos: Path, arguments: list[str], said: str) -> None:
    result = run("classify", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in unboxed(result.stderr)
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "out.txt"], ".parquet or .jsonl or .csv"),
        (["-o", "nowhere/out.csv"], "no folder nowhere"),
        (["-o", "out.csv", "--calibration", "missing.json"], "missing.json"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Any, photos: Path, arguments: list[str], said: str) -> None:
    result = run("classify", photos, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process")
def test_an_interrupted_job_says_how_to_go_on(start: Any, run: Any) -> None:
    Path("many").mkdir()
    for seed in range(400):
        Image.new("RGB", (8, 8), (seed % 256, seed // 256, 0)).save(f"many/{seed:03}.png")
    process = start("classify", "many", "-o", "out.jsonl", "--labels", "red, green")
    while not Path("out.jsonl.journal-wal").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, b"")
    said, command = errors.decode().strip().split(" to go on: ")
    assert said == "Interrupted. What is done is kept;"
    assert not Path("out.jsonl").exists()
    assert run(*shlex.split(command)[1:], "--limit", "40").exit_code == 0
    assert len(rows("out.jsonl")) == 40


def test_a_terminal_gets_a_bar_with_the_bottleneck(on_terminal: Any, photos: Path) -> None:
    Path("photos/bad.png").write_bytes(b"no image")
    code, written = on_terminal(200, "classify", photos, "-o", "out.csv")
    assert code == 1
    shown = ANSI.sub("", written)
    assert "5/5" in shown
    assert "image/s, 1 error" in shown
    assert "-bound: " in shown
