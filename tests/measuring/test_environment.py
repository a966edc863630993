"""Where something was measured."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import PIL
import pytest

from fastinfer import __version__
from fastinfer.errors import PresetError
from fastinfer.measuring import Environment
from fastinfer.measuring.environment import _commit


def test_this_machine_is_described_and_survives_json() -> None:
    here = Environment.here()
    assert here.cores >= 1
    assert here.fastinfer == __version__
    assert "llama-cpp-python" in here.versions
    assert len(here.gpus) == len(here.gpu_memory)
    assert Environment.from_dict(json.loads(json.dumps(here.to_dict()))) == here


@pytest.mark.parametrize("change", [{"gpus": ...}, {"colour": "red"}, {"gpus": 3}])
def test_what_is_no_environment_is_refused(change: dict[str, object]) -> None:
    data = {k: v for k, v in {**Environment.here().to_dict(), **change}.items() if v is not ...}
    with pytest.raises(PresetError, match="environment cannot be read"):
        Environment.from_dict(data)


def test_a_checkout_has_a_commit_and_says_when_its_files_were_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert _commit(tmp_path) is None
    try:
        git("init", "-q")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    assert _commit(tmp_path) is None
    (tmp_path / "src").mkdir()
    file = tmp_path / "src/a.py"
    file.write_text("1\n")
    git("add", ".")
    git("commit", "-qm", "a")
    head = git("rev-parse", "HEAD")
    assert _commit(tmp_path) == head
    file.write_text("2\n")
    assert _commit(tmp_path) == f"{head}+changes"


def test_a_copy_without_its_history_may_be_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTINFER_COMMIT", "0123abcd")
    assert Environment.here().commit == "0123abcd"


def test_a_package_that_was_unpacked_and_not_installed_has_the_version_of_what_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def not_installed(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    monkeypatch.setitem(sys.modules, "lmdeploy", None)
    found = Environment.here().versions
    assert found["pillow"] == PIL.__version__
    assert "lmdeploy" not in found
