"""LMDeploy is imported in one place: what that changes in the process is undone, and what fails says what to do.

The real package needs torch to be imported. Where that matters, a package stands in that runs the installed wheel's own
files for the side effects, in an interpreter of its own.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import fastinfer
from lmdeploy_classes import installed_folder

SOURCES = Path(fastinfer.__file__).parent
Run = Callable[..., CompletedProcess[str]]

REPORT = """
import sys
sys.path.insert(0, {folder!r})
{before}
from fastinfer.engines.turbomind.importing import import_lmdeploy
from fastinfer.errors import EngineUnavailableError
try:
    print(import_lmdeploy().__version__)
except EngineUnavailableError as error:
    print(error, type(error.__cause__).__name__, sep="|")
{after}
"""


def report(run: Run, *, folder: Path = Path(), before: str = "", after: str = "") -> str:
    """What an import says in a fresh interpreter: the version, or the error, its advice and its cause."""
    done = run(REPORT.format(folder=str(folder), before=before, after=after))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def package(folder: Path, text: str) -> Path:
    (folder / "lmdeploy").mkdir()
    (folder / "lmdeploy" / "__init__.py").write_text(text, "utf-8")
    return folder


@pytest.fixture
def with_side_effects(tmp_path: Path) -> Path:
    """A package that imports the installed LMDeploy's logging and its image reader, without what they do not run."""
    real = installed_folder()
    text = "from .utils import get_logger\nget_logger('lmdeploy')\n__version__ = '0.18.0'\nfrom . import last\n"
    package(tmp_path, text)
    for module in ("utils.py", "vl/media/image.py", "vl/media/base.py"):
        target = tmp_path / "lmdeploy" / module
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real / module, target)
    for module in ("lmdeploy/vl/__init__", "lmdeploy/vl/media/__init__", "lmdeploy/last", "pybase64"):
        (tmp_path / f"{module}.py").touch()
    (tmp_path / "torch.py").write_text("def __getattr__(name): return object\n", "utf-8")
    (tmp_path / "transformers.py").write_text("class PretrainedConfig: ...\n", "utf-8")
    return tmp_path


STATE = """
import logging
from PIL import ImageFile
handler = logging.StreamHandler(sys.stderr)
handler.setLevel(logging.DEBUG)
logging.getLogger().addHandler(handler)
own = logging.getLogger("lmdeploy")
own.setLevel(logging.CRITICAL)
def state():
    return ImageFile.LOAD_TRUNCATED_IMAGES, handler.level, own.level, own.propagate, list(own.handlers)
first = state()
"""
UNCHANGED = "print(state() == first, 'lmdeploy.vl.media.image' in sys.modules)"


def test_the_import_itself_changes_pillow_and_logging(with_side_effects: Path, run_python: Run) -> None:
    code = f"import sys\nsys.path.insert(0, {str(with_side_effects)!r})\n{STATE}\nimport lmdeploy.vl.media.image\n"
    done = run_python(f"{code}print([a == b for a, b in zip(state(), first)])")
    assert (done.stdout.strip(), done.stderr) == ("[False, False, False, False, False]", "")


@pytest.mark.parametrize("wanted", [True, False])
def test_pillow_and_logging_are_left_as_they_were(with_side_effects: Path, run_python: Run, wanted: bool) -> None:
    before = STATE.replace("first =", f"ImageFile.LOAD_TRUNCATED_IMAGES = {wanted}\nfirst =")
    said = report(run_python, folder=with_side_effects, before=before, after=UNCHANGED)
    assert said.split() == ["0.18.0", "True", "True"]


def test_they_are_left_so_by_an_import_that_fails(with_side_effects: Path, run_python: Run) -> None:
    (with_side_effects / "lmdeploy" / "last.py").write_text("import lmdeploy.vl.media.image\nimport no_such_module\n")
    said = report(run_python, folder=with_side_effects, before=STATE, after=UNCHANGED)
    assert said.splitlines()[1] == "True True"
    assert "it needs no_such_module, which is not there" in said


def test_without_lmdeploy_the_error_says_how_to_install_it(run_python: Run) -> None:
    before = """
import importlib.metadata
def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = version
sys.modules["lmdeploy"] = None
"""
    said = report(run_python, before=before)
    assert said.startswith("LMDeploy, which has the engine TurboMind, is not installed. ")
    assert "pip install 'fastinfer[turbomind]'" in said
    assert said.endswith("|ModuleNotFoundError")


def test_lmdeploy_without_torch_names_torch(run_python: Run) -> None:
    installed_folder()
    said = report(run_python, before='sys.modules["torch"] = None')
    assert re.match(r"LMDeploy 0\.18\.\d+ cannot be imported: it needs torch, which is not there\. ", said)
    assert "pip install 'fastinfer[turbomind]'" in said
    assert said.endswith("|ModuleNotFoundError")


def test_the_installed_lmdeploy_is_imported_or_says_what_it_lacks(run_python: Run) -> None:
    installed_folder()
    said = report(run_python)
    assert re.fullmatch(r"0\.18\.\d+|LMDeploy 0\.18\.\d+ cannot be imported: .+ pip install .+\|\w+", said)


@pytest.mark.parametrize(
    "error", ["ImportError('libcudart.so.12: cannot open')", "OSError('libcudart.so.12: cannot open')"]
)
def test_a_library_that_is_missing_is_named(error: str, tmp_path: Path, run_python: Run) -> None:
    said = report(run_python, folder=package(tmp_path, f"raise {error}"))
    assert "cannot be imported: libcudart.so.12: cannot open. A library that it was built for is missing" in said
    assert said.endswith(error.partition("(")[0])


@pytest.mark.parametrize("version", ["0.17.3", "0.19.0", "1.18.0", "0.180.0"])
def test_another_version_is_refused(version: str, tmp_path: Path, run_python: Run) -> None:
    folder = package(tmp_path, f"__version__ = {version!r}\n")
    (folder / "lmdeploy" / "vl" / "media").mkdir(parents=True)
    (folder / "lmdeploy" / "vl" / "media" / "image.py").touch()
    said = report(run_python, folder=folder)
    assert said.startswith(f"LMDeploy {version} is not supported. Install a supported version")


def test_another_version_that_cannot_be_imported_says_both(tmp_path: Path, run_python: Run) -> None:
    metadata = package(tmp_path, "import no_such_module") / "lmdeploy-0.15.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lmdeploy\nVersion: 0.15.0\n", "utf-8")
    said = report(run_python, folder=tmp_path)
    assert said.startswith("LMDeploy 0.15.0 is not supported, and cannot be imported: No module named 'no_such_module'")


def test_no_other_module_imports_lmdeploy_on_its_own() -> None:
    importing = re.compile(r"^(?:import|from)\s+lmdeploy\b", re.MULTILINE)
    found = {path.name for path in SOURCES.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))}
    assert found == set()
