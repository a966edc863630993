"""Counting what an engine does: a few additions for each thing that happens, and sums over several engines."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import fields
from typing import Any, Final, TypeVar

from fastinfer.errors import FastInferError

__all__ = ["SECONDS", "SIZES", "ErrorCounts", "Histogram", "absorb", "add_growth", "as_json", "keep"]

#: Upper bounds of the buckets of durations, in seconds: from a token of a small model to a reply of a large one.
SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
#: Upper bounds of the buckets of batch sizes.
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

_Value = TypeVar("_Value")


class Histogram:
    """How many values fell into which bucket, and their sum. Written by one thread at a time.

    Args:
        bounds: the largest value of each bucket but the last, which takes all others; ascending.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def absorb(self, other: Histogram) -> None:
        """Add the values of another one with the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class ErrorCounts:
    """How many errors there were of each class. Safe from any thread; errors are rare enough for a lock."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        # Where the garbage collector closes an engine, this very thread may hold the lock.
        self._lock = threading.RLock()

    def add(self, error: BaseException, count: int = 1) -> None:
        """One more error, or several."""
        self.add_name(type(error).__name__, count)

    def absorb(self, other: ErrorCounts) -> None:
        """Add the errors of another one."""
        for name, count in other.by_type().items():
            self.add_name(name, count)

    def by_type(self) -> dict[str, int]:
        """The number of errors by the names of their classes."""
        with self._lock:
            return dict(self._counts)

    def __enter__(self) -> ErrorCounts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Count an error of this library that leaves a ``with`` block."""
        if isinstance(error, FastInferError):
            self.add(error)

    def add_name(self, name: str, count: int) -> None:
        """So many more errors of a class of this name."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count


def keep(mine: _Value, _: _Value) -> _Value:
    """How values join that are about now: only the first counts."""
    return mine


def absorb(into: _Value, other: _Value) -> _Value:
    """Add a tally to another one of its class, field by field, and return that.

    Numbers are added up, or joined by the function that the field's metadata has under ``"join"``.

    Args:
        into: a dataclass of numbers, histograms and error counts; changed in place.
        other: what is added.
    """
    for field in fields(into):  # type: ignore[arg-type]
        mine, theirs = getattr(into, field.name), getattr(other, field.name)
        if isinstance(mine, (Histogram, ErrorCounts)):
            mine.absorb(theirs)
        else:
            join = field.metadata.get("join")
            setattr(into, field.name, join(mine, theirs) if join else mine + theirs)
    return into


def as_json(tally: object) -> dict[str, Any]:
    """The values of a tally for :func:`add_growth` in another process."""
    values: dict[str, Any] = {}
    for field in fields(tally):  # type: ignore[arg-type]
        value = getattr(tally, field.name)
        if isinstance(value, Histogram):
            values[field.name] = {"counts": list(value.counts), "sum": value.sum}
        else:
            values[field.name] = value.by_type() if isinstance(value, ErrorCounts) else value
    return values


def add_growth(into: object, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    """Add to a tally what another one of its class has counted between two looks at it.

    Args:
        into: changed in place.
        before: what :func:`as_json` said at the first look; None for nothing.
        after: at the second.
    """
    for field in fields(into):  # type: ignore[arg-type]
        mine, now = getattr(into, field.name), after[field.name]
        then = (before or {}).get(field.name)
        if isinstance(mine, Histogram):
            counts = then["counts"] if then else [0] * len(mine.counts)
            grown = Histogram(mine.bounds)
            grown.counts = [int(b) - int(a) for a, b in zip(counts, now["counts"], strict=True)]
            grown.sum = now["sum"] - (then["sum"] if then else 0.0)
            mine.absorb(grown)
        elif isinstance(mine, ErrorCounts):
            for name, count in now.items():
                if count > (then or {}).get(name, 0):
                    mine.add_name(name, count - (then or {}).get(name, 0))
        else:
            join = field.metadata.get("join")
            setattr(into, field.name, join(mine, now) if join else mine + now - (then or 0))
