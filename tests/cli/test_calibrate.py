"""``fastinfer calibrate``: a folder in, a file out that the library reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fastinfer
from cli_text import unboxed


@pytest.fixture
def folder(draw: Callable[..., Image.Image]) -> Path:
    """Four pictures of each of three labels in subfolders; and the preset "small" of one thread."""
    preset = '[classify.small]\nextends = "embedded"\nworkers = 1\nn_threads = 1\n'
    Path("fastinfer.toml").write_text(preset, "utf-8")
    for shape in ("circle", "square", "triangle"):
        Path("images", shape).mkdir(parents=True)
        for number, colour in enumerate(("red", "blue", "green", "black")):
            draw(shape, colour).save(Path("images", shape, f"{number}.png"))
    return Path("images")


def test_the_file_is_a_calibration_for_the_subfolders(run: Any, folder: Path) -> None:
    result = run("calibrate", folder, "-o", "calibration.json", "--preset", "small")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Calibration of embedded: 3 labels, 12 images")
    assert "calibration: calibration.json" in result.stderr
    calibration = fastinfer.Calibration.load("calibration.json")
    assert (calibration.labels, calibration.counts) == (("circle", "square", "triangle"), (4, 4, 4))
    with fastinfer.classifier("small", labels=["triangle", "square", "circle"]) as classifier:
        classifier.calibration = calibration
        assert classifier.classify(folder / "circle" / "0.png").prediction_set is not None


def test_json_is_the_calibration_and_a_bad_image_can_be_left_out(run: Any, folder: Path) -> None:
    (folder / "square" / "bad.png").write_bytes(b"nothing")
    options = (
        "calibrate",
        folder,
        "-o",
        "c.json",
        "--json",
        "--labels",
        "circle,square,triangle,car",
        "--coverage",
        "0.75",
        "--preset",
        "small",
    )
    result = run(*options)
    assert (result.exit_code, Path("c.json").exists()) == (1, False)
    assert result.stderr.startswith("error: Cannot read bad.png")
    result = run(*options, "--skip-errors")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert fastinfer.Calibration.from_dict(data) == fastinfer.Calibration.load("c.json")
    assert (data["skipped"], data["counts"], data["coverage"]) == (1, [4, 4, 4, 0], 0.75)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("missing", "-o", "c.json"), 1, "There is no folder missing."),
        (("flat", "-o", "c.json"), 2, "flat has no subfolders with images"),
        (("flat",), 2, "--output"),
        (("flat", "-o", "no/c.json"), 2, "there is no folder no to write c.json into"),
        (("flat", "-o", "c.json", "--coverage", "90"), 2, "--coverage"),
        (("images", "-o", "c.json", "--coverage", "0.95"), 1, "needs at least 19 labelled images; there are 12"),
        (("images", "-o", "c.json", "--labels", "circle,square"), 1, "none of the labels: 'triangle'"),
        (("images", "-o", "images"), 1, "images is not a file that can be replaced"),
    ],
)
def test_what_makes_no_sense_is_refused(
    run: Any, folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    Path("flat").mkdir()
    (folder / "circle" / "0.png").rename("flat/0.png")
    (folder / "circle" / "copy.png").write_bytes(Path("flat/0.png").read_bytes())
    result = run("calibrate", *arguments, "--preset", "small")
    assert result.exit_code == code
    assert said in unboxed(result.stderr)
    assert "Traceback" not in result.output
