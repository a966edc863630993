from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cli_text import unboxed


@pytest.fixture
def folder(samples: Path) -> Path:
    """Two samples of each of two labels."""
    for name, label in (("3.png", "3"), ("7.png", "7"), ("tree.jpg", "tree")):
        Path("images", label).mkdir(parents=True)
        shutil.copy(samples / name, Path("images", label, name))
    return Path("images")


def test_json_is_the_comparison(run: Any, folder: Path) -> None:
    result = run("compare", "embedded", "embedded", folder, "--json", "--one-by-one")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["labels"] == ["3", "7", "tree"]
    assert data["a"]["accuracy"]["count"] == 3
    assert data["agreement"]["value"] == 1.0
    assert [image["name"] for image in data["images"]] == ["3/3.png", "7/7.png", "tree/tree.jpg"]
    assert data["at_once"] is False


def test_text_names_both_and_a_bad_image_is_the_exit_code(run: Any, folder: Path) -> None:
    (folder / "7" / "bad.png").write_bytes(b"nothing")
    result = run("compare", "embedded", "embedded", folder, "--labels", "3,7,tree,car", "--sheet", "sheet.png")
    assert result.exit_code == 1
    assert result.stdout.startswith("embedded (a) against embedded (b): 4 images, 4 labels")
    assert "7/bad.png" in result.stdout
    assert "disagreements: sheet.png" in result.stderr
    assert "error: 1 of 4 images could not be compared." in result.stderr
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("embedded", "embedded", "missing"), 1, "There is no folder missing."),
        (("embedded", "prud", "."), 1, "There is no preset 'prud'"),
        (("embedded", "embedded", ".", "--labels-file", "none.txt"), 2, "cannot read the labels file"),
        (("embedded", "embedded", ".", "--sheet", "no/sheet.png"), 2, "there is no folder no"),
    ],
)
def test_what_cannot_be_compared_is_one_line(run: Any, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run("compare", *arguments)
    assert result.exit_code == code
    assert said in unboxed(result.stderr)
    assert "Traceback" not in result.stderr
