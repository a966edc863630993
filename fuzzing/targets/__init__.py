"""The targets by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAMES", "Target", "target"]

_CORPUS = Path(__file__).parents[1] / "corpus"

#: Each is a module here.
NAMES = ("gguf", "images", "journal", "presets", "replies", "safetensors", "templates")


@dataclass(frozen=True, slots=True)
class Target:
    """A parser and what must hold of it.

    Attributes:
        name: one of :data:`NAMES`.
        check: takes any bytes; raises where something does not hold.
        seeds: makes sound inputs.
        words: pieces of the format, for mutations.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...]

    def corpus(self) -> list[bytes]:
        """Inputs that were findings once: the files of the corpus, in the order of their names."""
        return [_content(file) for file in sorted((_CORPUS / self.name).glob("*"))]


def target(name: str) -> Target:
    """The target of this name.

    Raises:
        KeyError: there is none.
    """
    if name not in NAMES:
        raise KeyError(name)
    module = importlib.import_module(f"fuzzing.targets.{name}")
    return Target(name, module.check, module.seeds, module.WORDS)


def _content(file: Path) -> bytes:
    """A file's bytes; those of ``.hex`` are written in digits, ``00*9`` for nine times the same."""
    if file.suffix != ".hex":
        return file.read_bytes()
    pieces = (word.partition("*") for word in file.read_text(encoding="ascii").split())
    return b"".join(bytes.fromhex(digits) * int(times or 1) for digits, _, times in pieces)
