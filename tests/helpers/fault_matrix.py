"""Faults as data: what is injected, what must hold, and the tests that hold the library to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["KINDS", "Covered", "Fault", "rows"]

#: The kinds of faults, with what must hold for each.
KINDS = {
    "image bytes": "one ImageDecodeError for that item, which names it; its siblings are untouched",
    "labels": "refused, or planned for, before any model runs",
    "prompts": "a typed error, never a truncated prompt",
    "engine": "whatever waits fails in bounded time with its cause, or recovers",
    "lifecycle": "idempotent, memory returns, the engine is usable or says that it is not",
    "load": "bounded memory, nothing lost",
    "disk and network": "no partial output or file is accepted",
    "environment": "explained, never silent",
    "server cases": "as llama.cpp's own server does it",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the matrix that a parametrised test of ``tests/faults`` injects.

    Attributes:
        kind: one of :data:`KINDS`.
        name: what goes wrong, and where.
        inject: what the kind's test makes the fault of.
        error: the error that callers get; None where there must be none.
        words: part of its message.
        cause: the type of its ``__cause__``; None where it has none.
    """

    kind: str
    name: str
    inject: Any = None
    error: type[BaseException] | None = None
    words: str = ""
    cause: type[BaseException] | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Covered:
    """A row that other tests hold in full.

    Attributes:
        kind: one of :data:`KINDS`.
        name: what goes wrong, and where.
        by: the tests, as pytest names them without parameters.
    """

    kind: str
    name: str
    by: tuple[str, ...]


def rows(faults: tuple[Fault, ...]) -> dict[str, Any]:
    """Arguments of ``pytest.mark.parametrize`` for a table."""
    return {"argnames": "fault", "argvalues": faults, "ids": str}
