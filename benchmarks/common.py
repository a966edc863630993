"""What every benchmark shares: where it ran, how figures are kept, and the pictures."""

from __future__ import annotations

import io
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastinfer.measuring import Environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
PACKAGES = ROOT / ".work/npm"
sys.path.insert(0, str(ROOT / "training"))

from concepts import EVERYDAY  # noqa: E402, F401  from training/, on the path only now; the scripts take it from here


def environment() -> dict[str, Any]:
    """Hardware, versions and commit of this run, with "+changes" where source or benchmarks are not as committed."""
    found = Environment.here().to_dict()
    if "FASTINFER_COMMIT" not in os.environ:
        found["commit"] = _git("rev-parse", "HEAD")
        if _git("status", "--porcelain", "src", "benchmarks", ":!benchmarks/results"):
            found["commit"] += "+changes"
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def save(name: str, command: str, figures: dict[str, object], out: Path | None = None) -> None:
    """Write ``results/NAME.json``, or another file, and print it."""
    out = out or RESULTS / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "environment": environment(), **figures}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    out.write_text(text + "\n", "utf-8")
    print(text)


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """``["n_ctx=4096", "enable_prefix_caching=false"]`` as keyword arguments; what is no JSON is text."""
    found = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median with the lowest and highest value."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def interleave(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every run once a round, every other round backwards, so that a machine that slows down slows all of them."""
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name in reversed(runs) if number % 2 else runs:
            measured[name].append(runs[name]())
    return measured


def everyday_pictures(size: int) -> list[Image.Image]:
    """The 100 everyday things in the OpenMoji style, which the embedded model was not trained on, on white."""
    # Needs resvg, which the readers of results do not.
    import pictures

    _fetch("@iconify-json/openmoji@1.2.29", "iconify-json-openmoji-1.2.29.tgz")
    _fetch("emojibase-data@17.0.0", "emojibase-data-17.0.0.tgz")
    return pictures.everyday_pictures(PACKAGES, size)


def digit_pictures() -> tuple[list[Image.Image], list[str]]:
    """The held-out handwritten digits, 160x160 px, black on white, with their labels."""
    from pictures import digit_picture, handwritten_digits

    _, inks, _, labels = handwritten_digits()
    pictures = []
    for ink in inks:
        alpha = digit_picture(ink)[..., 3]
        pictures.append(Image.fromarray(np.repeat(255 - alpha[..., None], 3, axis=2)))
    return pictures, [str(label) for label in labels]


def as_png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _fetch(package: str, archive: str) -> None:
    if (PACKAGES / archive).exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(f"npm is needed to fetch {package}, which holds the pictures.")
    PACKAGES.mkdir(parents=True, exist_ok=True)
    subprocess.run([npm, "pack", "--silent", package], cwd=PACKAGES, check=True, capture_output=True)
