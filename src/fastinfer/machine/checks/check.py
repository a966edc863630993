"""What every check comes to: a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["Check", "Status", "number_in", "size_of", "text_in"]

Status = Literal["ok", "warn", "fail"]

_MIB: Final = 2**20
_GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        area: the part of the machine: ``"engines"``, ``"gpu"``, ``"cpu"``, ``"memory"``, ``"disk"``, ``"hub"``,
            ``"python"`` or ``"presets"``.
        name: what was looked at; with its area, unique in a diagnosis.
        status: ``"ok"``; ``"warn"``: something works less well than it could, or not at all while others do; or
            ``"fail"``: what is installed or set up here cannot work as it is.
        found: what is there.
        meaning: what follows from it.
        remedy: the command that mends it, for a shell; empty where the status is ``"ok"``.
    """

    area: str
    name: str
    status: Status
    found: str
    meaning: str
    remedy: str = ""


def size_of(count: float) -> str:
    """A number of bytes for people: ``"1.5 GiB"``, or ``"64 MiB"`` where it is less than one."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"


def text_in(path: Path) -> str | None:
    """What a small file of the system holds, without white space at its ends; None where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def number_in(path: Path) -> int | None:
    """The whole number that a file of the system holds; None where there is none."""
    text = text_in(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
