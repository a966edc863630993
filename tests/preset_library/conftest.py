"""Every test here starts without preset files and environment variables of the machine it runs on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("APPDATA", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("FASTINFER_PRESETS", "FASTINFER_CLASSIFY_MODEL", "FASTINFER_CHAT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def write_presets(working_directory: Path) -> Callable[[str], Path]:
    """Write ``fastinfer.toml`` in the working directory."""

    def write(text: str) -> Path:
        path = working_directory / "fastinfer.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
