"""No network, no cache of the hub, nothing of the machine's settings; and a look at what is left in the temp folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import tiny_chat as tiny

VARIABLES = ("FASTINFER_PRESETS", "FASTINFER_CLASSIFY_MODEL", "FASTINFER_CHAT_MODEL", "XDG_CONFIG_HOME")


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An account without settings and without the hub; the folder in which folders for a time are made."""
    from huggingface_hub import constants

    outer = tmp_path_factory.mktemp("planning")
    folders = {name: outer / name for name in ("cache", "home", "temp", "work")}
    for folder in folders.values():
        folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(folders["cache"]))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_CACHE", str(folders["cache"]))
        patch.setenv("HOME", str(folders["home"]))
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setattr(tempfile, "tempdir", str(folders["temp"]))
        patch.chdir(folders["work"])
        yield folders["temp"]


@pytest.fixture(autouse=True)
def nothing_is_left(scratch: Path) -> Iterator[None]:
    """Whatever a plan was made of, its stand-ins are gone after it."""
    yield
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="session")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small chat model with 2 layers."""
    return tiny.write_babbler(tmp_path_factory.mktemp("planned") / "babbler.gguf", None)
