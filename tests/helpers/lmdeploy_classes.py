"""LMDeploy's own configuration classes, on machines where LMDeploy itself cannot be imported.

``import lmdeploy`` needs torch and a dozen packages more. The classes are in one file, ``lmdeploy/messages.py``, that
needs them only to annotate fields. Here the installed wheel's very file is executed, with empty modules in their place.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import logging
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

__all__ = ["installed_folder", "real_classes"]

_ANNOTATIONS = {
    "torch": ("Tensor",),
    "lmdeploy": (),
    "lmdeploy.pytorch": (),
    "lmdeploy.pytorch.disagg": (),
    "lmdeploy.pytorch.disagg.config": ("EngineRole", "MigrationBackend"),
    "lmdeploy.pytorch.disagg.conn": (),
    "lmdeploy.pytorch.disagg.conn.protocol": ("MigrationRequest",),
    "lmdeploy.tokenizer": ("Tokenizer",),
    "lmdeploy.utils": (),
}


def installed_folder() -> Path:
    """Where the installed LMDeploy is; the test is skipped where there is none."""
    found = importlib.util.find_spec("lmdeploy")  # finds, and executes nothing
    if found is None or found.origin is None:
        pytest.skip("LMDeploy is not installed: there is no wheel for this platform, or it could not be fetched")
    return Path(found.origin).parent


@cache
def _messages(file: Path) -> ModuleType:
    modules: dict[str, Any] = {}
    for name, types in _ANNOTATIONS.items():
        modules[name] = ModuleType(name)
        modules[name].__path__ = []
        for each in types:
            setattr(modules[name], each, type(each, (), {"Hybrid": None, "DLSlime": None}))
    modules["lmdeploy.utils"].get_logger = logging.getLogger
    loader = importlib.machinery.SourceFileLoader("lmdeploy.messages", str(file))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = modules[loader.name] = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, modules):
        loader.exec_module(module)
    return module


def real_classes() -> ModuleType:
    """A module ``lmdeploy`` with the real TurbomindEngineConfig, VisionConfig and GenerationConfig, and their version.

    The test is skipped where LMDeploy is not installed.
    """
    messages = _messages(installed_folder() / "messages.py")
    package: Any = ModuleType("lmdeploy")
    package.__version__ = importlib.metadata.version("lmdeploy")
    for name in ("TurbomindEngineConfig", "VisionConfig", "GenerationConfig"):
        setattr(package, name, getattr(messages, name))
    return package  # type: ignore[no-any-return]
