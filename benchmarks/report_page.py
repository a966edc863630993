"""A report of a real run, and its picture: digits that the embedded model was not trained on, turned and with noise.

python benchmarks/report_page.py --out FOLDER

Writes ``report.html`` and, where Chromium is installed, ``report.png``: what a browser shows of its upper part.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from common import ROOT, digit_pictures
from PIL import Image

import fastinfer

WIDTH, HEIGHT = 1200, 1500
#: Bytes that the picture may have.
LARGEST = 150_000
#: Degrees by which a picture is turned at most, and the noise's standard deviations in 8-bit values.
TURN, NOISE = 55, (0, 20, 60)


def write_pictures(folder: Path) -> list[Path]:
    """The held-out digits as JPEG files, each in the folder of its label."""
    dice, noise = random.Random(6), np.random.default_rng(6)
    paths = []
    for place, (picture, label) in enumerate(zip(*digit_pictures(), strict=True)):
        turned = picture.rotate(dice.uniform(-TURN, TURN), fillcolor="white")
        pixels = np.asarray(turned) + noise.normal(0, dice.choice(NOISE), (*turned.size, 3))
        paths.append(folder / label / f"{place:03}.jpg")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=85)
    return paths


def make_report() -> fastinfer.ClassificationReport:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder))
        with fastinfer.classifier(labels=[str(digit) for digit in range(10)]) as classifier:
            results = classifier.classify_many(paths, errors="return")
            title = "Handwritten digits, turned and with noise"
            return fastinfer.report(results, "folders", images=paths, title=title)


def take_picture(page: Path, picture: Path) -> None:
    """What Chromium shows of a page, in 64 colours, so that the file is small."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("No Chromium is installed: there is no picture.")
        return
    with tempfile.TemporaryDirectory() as profile:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars")
        shot = (f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}")
        subprocess.run([browser, *options, *quiet, *shot, page.as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(picture) as opened:
        shown = opened.convert("RGB")
    shown.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)
    if picture.stat().st_size > LARGEST:
        raise SystemExit(f"{picture} has {picture.stat().st_size:,} bytes, more than {LARGEST:,}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder to write into")
    out: Path = parser.parse_args().out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    report = make_report()
    take_picture(report.save(out / "report.html"), out / "report.png")
    print(report)


if __name__ == "__main__":
    main()
