"""Every test here starts without preset files and environment variables of the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def working_directory(bare_account: Path) -> Path:
    return bare_account


@pytest.fixture
def write_presets(working_directory: Path) -> Callable[[str], Path]:
    """Write ``fastinfer.toml`` in the working directory."""

    def write(text: str) -> Path:
        path = working_directory / "fastinfer.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
