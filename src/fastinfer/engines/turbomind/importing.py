"""The one place where LMDeploy is imported, and where what its import does to the whole process is undone."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

from fastinfer.errors import EngineUnavailableError

__all__ = ["INSTALL_SUPPORTED", "check_installed", "import_lmdeploy"]

#: The command that installs a version which all here was written for.
INSTALL_SUPPORTED: Final = "pip install 'lmdeploy>=0.18,<0.19'"

_SUPPORTED: Final = (0, 18)
_LOGGER: Final = "lmdeploy"
#: Sets Pillow's switch. It is imported with the package today; asked for by name, it cannot come later.
_SETS_PILLOW: Final = "lmdeploy.vl.media.image"
_INSTALL: Final = "Install it with all it needs: pip install 'fastinfer[turbomind]' (Linux or Windows, NVIDIA GPU)."

_lock = threading.Lock()


def import_lmdeploy() -> ModuleType:
    """The package ``lmdeploy``, imported without lasting effects on the rest of the process.

    Importing it makes Pillow accept truncated images everywhere, raises the level of the root logger's handlers, and
    sends the logger ``lmdeploy`` to stdout. All of that is set back to what it was. Safe from several threads.

    Raises:
        EngineUnavailableError: LMDeploy is not installed, cannot be imported, or is another version than 0.18.
    """
    with _lock:
        try:
            with _logging_unchanged(), _pillow_unchanged():
                lmdeploy = importlib.import_module("lmdeploy")
                importlib.import_module(_SETS_PILLOW)
        # Its compiled dependencies raise OSError for a library that is missing, and others RuntimeError.
        except (ImportError, OSError, RuntimeError) as error:
            raise _unavailable(error) from error
    _check_version(str(lmdeploy.__version__))
    return lmdeploy


def check_installed() -> None:
    """Refuse where there is no LMDeploy, or an unsupported one, without importing it.

    Raises:
        EngineUnavailableError: LMDeploy is not installed, or is another version than 0.18.
    """
    version = _installed_version()
    if version is None:
        raise _unavailable(ModuleNotFoundError("No module named 'lmdeploy'", name="lmdeploy"))
    _check_version(version)


def _check_version(version: str) -> None:
    if not _is_supported(version):
        raise EngineUnavailableError(
            f"LMDeploy {version} is not supported.",
            hint=f"Install a supported version: {INSTALL_SUPPORTED}.",
        )


def _unavailable(error: Exception) -> EngineUnavailableError:
    installed = _installed_version()
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if installed is None and name == "lmdeploy":
        return EngineUnavailableError("LMDeploy, which has the engine TurboMind, is not installed.", hint=_INSTALL)
    said = f"LMDeploy {installed or ''}".rstrip()
    if installed is not None and not _is_supported(installed):
        return EngineUnavailableError(
            f"{said} is not supported, and cannot be imported: {error}.",
            hint=f"Install a supported version: {INSTALL_SUPPORTED}.",
        )
    if name is not None:
        return EngineUnavailableError(f"{said} cannot be imported: it needs {name}, which is not there.", hint=_INSTALL)
    return EngineUnavailableError(
        f"{said} cannot be imported: {error}.",
        hint="A library that it was built for is missing or of another version, CUDA's for example. " + _INSTALL,
    )


def _installed_version() -> str | None:
    try:
        return importlib.metadata.version("lmdeploy")
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_supported(version: str) -> bool:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) == _SUPPORTED


@contextmanager
def _pillow_unchanged() -> Iterator[None]:
    # Imported here, not above: Pillow comes with the first image.
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


@contextmanager
def _logging_unchanged() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger(_LOGGER)
    levels = [(handler, handler.level) for handler in root.handlers]
    level, propagate, handlers = own.level, own.propagate, list(own.handlers)
    try:
        yield
    finally:
        for handler, before in levels:
            handler.setLevel(before)
        own.setLevel(level)
        own.propagate = propagate
        own.handlers[:] = handlers
