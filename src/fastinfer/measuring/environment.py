"""Where something was measured: hardware, drivers, versions, commit, date."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from fastinfer._version import __version__
from fastinfer.engines.cores import usable_cores
from fastinfer.engines.turbomind.gpus import gpus
from fastinfer.errors import EngineUnavailableError, PresetError
from fastinfer.machine.checks.check import text_in
from fastinfer.machine.checks.gpu import driver_release
from fastinfer.machine.memory import host_memory

__all__ = ["Environment"]

#: What decides how fast an answer comes; those that are not installed are left out.
_PACKAGES: Final = ("llama-cpp-python", "lmdeploy", "torch", "transformers", "numpy", "pillow")
_MODULES: Final = {"llama-cpp-python": "llama_cpp", "pillow": "PIL"}  # where it has another name


@dataclass(frozen=True, slots=True)
class Environment:
    """A machine and what is installed on it.

    Attributes:
        when: date and time in UTC, in ISO 8601.
        system: operating system and architecture.
        cpu: the processor's name.
        cores: that this process may use.
        memory: bytes of the machine, or of the container; None where the system does not tell.
        gpus: the NVIDIA GPUs by name, in CUDA's order.
        gpu_memory: bytes of each.
        driver: version of the NVIDIA driver; None without one.
        python: version.
        fastinfer: version.
        commit: FASTINFER_COMMIT where that is set, for copies without their history; else that of the checkout that
            fastinfer runs from, with "+changes" where files in it were changed; None where it is no checkout.
        versions: of the engines and what they stand on, by package, as far as they are installed or loaded.
    """

    when: str
    system: str
    cpu: str
    cores: int
    memory: int | None
    gpus: tuple[str, ...]
    gpu_memory: tuple[int, ...]
    driver: str | None
    python: str
    fastinfer: str
    commit: str | None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Environment:
        """This machine, now."""
        try:
            cards = gpus()
        except EngineUnavailableError:
            cards = ()
        memory = host_memory()
        return cls(
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            system=f"{platform.system()} {platform.machine()}",
            cpu=_processor(),
            cores=usable_cores(),
            memory=None if memory is None else memory.total,
            gpus=tuple(card.name for card in cards),
            gpu_memory=tuple(card.memory for card in cards),
            driver=driver_release(Path("/")) or None,
            python=platform.python_version(),
            fastinfer=__version__,
            commit=os.environ.get("FASTINFER_COMMIT") or _commit(Path(__file__).resolve().parents[3]),
            versions=_versions(),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold; :meth:`from_dict` reads it back."""
        return {**asdict(self), "gpus": list(self.gpus), "gpu_memory": list(self.gpu_memory)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Environment:
        """The environment that :meth:`to_dict` wrote.

        Raises:
            PresetError: a key is missing or unknown.
        """
        try:
            return cls(**{**data, "gpus": tuple(data["gpus"]), "gpu_memory": tuple(data["gpu_memory"])})
        except (KeyError, TypeError) as error:
            raise PresetError(
                f"An environment cannot be read: {error}.", hint="Give what Environment.to_dict() returned."
            ) from error


def _processor(info: Path = Path("/proc/cpuinfo")) -> str:
    lines = (text_in(info) or "").splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # Unpacked rather than installed; not imported for this.
            loaded = sys.modules.get(_MODULES.get(package, package))
            if version := getattr(loaded, "__version__", None):
                found[package] = str(version)
    return found


def _commit(root: Path) -> str | None:
    """The commit of a checkout; git is asked only where there is one, and says nothing where it is not installed."""
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "src")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
