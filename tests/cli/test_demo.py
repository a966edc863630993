from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

ORIENTATION = 0x0112


def expected(name: str) -> str:
    return Path(name).stem.replace("-", " ")


def test_the_demo_is_right(run: Any, samples: Path) -> None:
    result = run("demo", "--json")
    assert result.exit_code == 0
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) >= 10
    right = sum(record["label"] == expected(record["source"]) for record in records)
    assert right >= 0.9 * len(records)
    labels = (samples / "labels.txt").read_text("utf-8").split("\n")[:-1]
    assert all(set(record["probabilities"]) == set(labels) for record in records)
    assert {expected(record["source"]) for record in records} <= set(labels)


def test_the_demo_is_right_without_labels_too(run: Any, samples: Path) -> None:
    result = run("classify", samples, "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert sum(record["label"] == expected(record["source"]) for record in records) >= 0.9 * len(records)


def test_the_demo_shows_a_table(on_terminal: Any) -> None:
    for width in (80, 120):
        code, written = on_terminal(width, "demo")
        assert code == 0
        assert all(heading in written for heading in ("Image", "Label", "Probability", "ms"))
        assert "closed set of 25 labels" in written
        assert "images/s: model embedded, llama.cpp" in written
        assert "Next: fastinfer classify" in written


def test_the_demo_does_not_depend_on_the_environment(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("FASTINFER_CLASSIFY_MODEL", "missing.gguf")
    result = run("demo")
    assert result.exit_code == 0
    assert "images/s" in result.stderr
    assert len(result.stdout.splitlines()) >= 10


def test_the_samples_are_small_and_of_several_kinds(samples: Path) -> None:
    files = [path for path in samples.iterdir() if path.suffix in (".png", ".jpg")]
    assert sum(path.stat().st_size for path in files) < 150_000
    modes, orientations, formats = set(), set(), set()
    for path in files:
        with Image.open(path) as image:
            assert all(160 <= side <= 320 for side in image.size)
            modes.add(image.mode)
            orientations.add(image.getexif().get(ORIENTATION, 1))
            formats.add(image.format)
    assert modes == {"RGB", "RGBA"}
    assert orientations == {1, 6}
    assert formats == {"PNG", "JPEG"}
