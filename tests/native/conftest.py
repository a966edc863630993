"""The repository's presets in a folder of their own, and CMake run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWITCHES = ("FASTINFER_LLAMA_SOURCE", "FASTINFER_PIP_OPTIONS", "CUDAToolkit_ROOT", "CMAKE_GENERATOR", "CMAKE_ARGS")


def version_of_cmake() -> tuple[int, ...]:
    program = shutil.which("cmake")
    if program is None:
        return (0,)
    found = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"\d+", found)[:2])


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a native build takes from the repository."""
    if version_of_cmake() < (3, 25):
        pytest.skip("CMake 3.25 or newer is not installed")
    folder = tmp_path_factory.mktemp("native build")
    for name in ("CMakeLists.txt", "CMakePresets.json", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "native", folder / "native")
    return folder


@pytest.fixture(scope="session")
def cmake(checkout: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``cmake(*arguments, **environment)`` in that folder, with this interpreter as its Python."""

    def run(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in SWITCHES}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited["PATH"]])
        return subprocess.run(
            ["cmake", *arguments],
            cwd=checkout,
            env={**inherited, "PATH": path, "VIRTUAL_ENV": sys.prefix, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def refusal(cmake: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """The message of a configuration that has to fail, without CMake's line breaks; it must be the only error."""

    def configure(*arguments: str, **environment: str) -> str:
        environment = {"FASTINFER_LLAMA_SOURCE": "an archive that no test fetches", **environment}
        done = cmake(*arguments, **environment)
        assert done.returncode != 0, done.stdout
        assert done.stderr.count("CMake Error") == 1, done.stderr
        return " ".join(done.stderr.split("Call Stack")[0].split())

    return configure
