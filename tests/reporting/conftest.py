"""Results made by hand, and the file of a report in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastinfer import Classification, Provenance
from fastinfer.errors import FastInferError

RAN = Provenance("llama.cpp", "embedded", "embedded", "0123456789abcdef", "CPU", "batched encode, trie scoring")


def result(
    probabilities: dict[str, float],
    source: str = "1.png",
    error: FastInferError | None = None,
    prediction_set: Sequence[str] | None = None,
) -> Classification:
    """A result with these probabilities; the error of one that failed."""
    best = sorted(probabilities.items(), key=lambda item: -item[1])
    label, confidence = best[0] if error is None else (None, 0.0)
    return Classification(
        source=source,
        label=label,
        confidence=confidence,
        probabilities=dict(best),
        label_mass=0.9,
        prompt_tokens=80,
        timings=None,
        provenance=RAN,
        error=error,
        prediction_set=None if prediction_set is None else tuple(prediction_set),
        abstained=prediction_set is not None and len(prediction_set) != 1,
    )


@pytest.fixture(scope="session")
def classified() -> Callable[..., Classification]:
    """``classified(probabilities, source, error, prediction_set)``: a Classification."""
    return result


@pytest.fixture(scope="session")
def animals() -> list[Classification]:
    """Six results for cats, dogs and an otter: five classified, of which three are right, and one failed."""
    return [
        result({"cat": 0.9, "dog": 0.08, "otter": 0.02}, "cat/1.png"),
        result({"cat": 0.6, "dog": 0.3, "otter": 0.1}, "cat/2.png"),
        result({"dog": 0.95, "cat": 0.04, "otter": 0.01}, "cat/3.png"),
        result({"dog": 0.55, "cat": 0.25, "otter": 0.2}, "dog/4.png"),
        result({"dog": 0.45, "otter": 0.35, "cat": 0.2}, "otter/5.png"),
        result({}, "dog/6.png", FastInferError("Cannot read 6.png.")),
    ]


@pytest.fixture(scope="session")
def browser() -> Callable[..., tuple[str, str]]:
    """``browser(page, profile, *options)``: Chromium shows a file without a display; what it prints, and its log."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")

    def show(page: Path, profile: Path, *options: str) -> tuple[str, str]:
        quiet = [
            *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}"),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            quiet.append("--no-sandbox")  # Chromium has none for the administrator
        done = subprocess.run(
            [program, *quiet, *options, page.as_uri()], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout, done.stderr

    return show


@pytest.fixture(autouse=True)
def account(bare_account: Path) -> Any:
    return bare_account
