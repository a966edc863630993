from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli_text import unboxed


@pytest.fixture
def results() -> Path:
    """Four results of two folders, one of them failed, with their images."""
    lines: list[dict[str, Any]] = [
        {"path": "cat/1.png", "label": "cat", "confidence": 0.9, "probabilities": {"cat": 0.9, "dog": 0.1}},
        {"path": "cat/2.png", "label": "dog", "confidence": 0.7, "probabilities": {"dog": 0.7, "cat": 0.3}},
        {"path": "dog/3.png", "label": "dog", "confidence": 0.8, "probabilities": {"dog": 0.8, "cat": 0.2}},
        {"path": "dog/4.png", "error_type": "ImageDecodeError", "error_message": "It is damaged."},
    ]
    for line in lines:
        path = Path("photos", line["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), "teal").save(path)
    file = Path("results.jsonl")
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return file


def test_it_prints_the_report_and_writes_the_page(run: Any, results: Path) -> None:
    result = run("report", results, "--truth", "folders", "--images", "photos", "-o", "report.html", "--title", "Pets")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Pets\n66.7% of 3 images are right (95% interval")
    assert "report: report.html" in result.stderr
    page = Path("report.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 4
    assert "<title>Pets</title>" in page


def test_json_is_the_report(run: Any, results: Path) -> None:
    Path("truth.csv").write_text("path,label\ncat/1.png,cat\ncat/2.png,cat\n", "utf-8")
    result = run("report", results, "--truth", "truth.csv", "--confidence", "0.9", "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert (data["accuracy"]["count"], data["accuracy"]["total"], data["confidence"]) == (1, 2, 0.9)


def test_without_truth_it_counts(run: Any, results: Path) -> None:
    result = run("report", results)
    assert result.exit_code == 0, result.stderr
    assert "their truth is not known" in result.stdout
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("missing.jsonl",), 1, "missing.jsonl cannot be read"),
        (("results.jsonl", "--truth", "none.csv"), 1, "none.csv cannot be read"),
        (("results.jsonl", "--images", "nowhere"), 1, "There is no folder nowhere."),
        (("results.jsonl", "--confidence", "95"), 1, "confidence is 95.0, not between 0 and 1"),
        (("results.jsonl", "-o", "no/report.html"), 2, "there is no folder no"),
    ],
)
def test_what_cannot_be_reported_on_is_one_line(
    run: Any, results: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = run("report", *arguments)
    assert result.exit_code == code
    assert said in unboxed(result.stderr)
    assert "Traceback" not in result.stderr
