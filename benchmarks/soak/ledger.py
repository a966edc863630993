"""Every request counted: what was submitted is answered, cancelled or failed as it should, or is a fault."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastinfer.errors import RequestCancelledError

#: How many faults are kept word by word.
_KEPT = 20


class WrongContent(Exception):  # noqa: N818  a finding
    """An answer came, and it is not the right one."""


class Abandoned(Exception):  # noqa: N818  no error at all
    """The caller has lost interest, as it was meant to."""


class Ledger:
    """What became of requests, by kind. Safe from any thread.

    Attributes:
        faults: the first wrong answers and unexpected errors, in words.
        largest: the largest value that was seen of each figure given to :meth:`notice`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._errors: dict[str, Counter[str]] = {}
        self._begun = time.monotonic()
        self.faults: list[str] = []
        self.largest: dict[str, float] = {}

    @contextmanager
    def request(self, kind: str, *expected: type[Exception]) -> Iterator[None]:
        """One request: how the block ends is what became of it.

        Args:
            kind: what it is counted as.
            expected: errors that it may end with.
        """
        self.add(kind, "submitted")
        try:
            yield
        except (Abandoned, RequestCancelledError, asyncio.CancelledError):
            self.add(kind, "cancelled")
        except WrongContent as wrong:
            self.fault(kind, "wrong", str(wrong))
        except expected as error:
            self.add(kind, "failed")
            with self._lock:
                self._errors.setdefault(kind, Counter())[type(error).__name__] += 1
        except Exception:  # noqa: BLE001  whatever else is raised is a fault of the library
            self.fault(kind, "unexpected", traceback.format_exc(limit=-4))
        else:
            self.add(kind, "answered")

    def add(self, kind: str, what: str, count: int = 1) -> None:
        """Count as ``submitted``, and then as ``answered``, ``cancelled``, ``failed``, ``wrong`` or ``unexpected``."""
        with self._lock:
            self._counts.setdefault(kind, Counter())[what] += count

    def fault(self, kind: str, what: str, words: str) -> None:
        """Count one that went wrong, and keep what was said of the first ones."""
        self.add(kind, what)
        with self._lock:
            if len(self.faults) < _KEPT:
                self.faults.append(f"{time.monotonic() - self._begun:.1f} s, {kind}: {words}")

    def notice(self, name: str, value: float) -> None:
        """Keep the largest of a figure."""
        with self._lock:
            self.largest[name] = max(value, self.largest.get(name, 0.0))

    def account(self) -> dict[str, Any]:
        """Counts by kind, their sums, and how many requests nothing became of."""
        with self._lock:
            kinds = {
                kind: {**counts, **({"errors": dict(self._errors[kind])} if kind in self._errors else {})}
                for kind, counts in sorted(self._counts.items())
            }
            total: Counter[str] = Counter()
            for counts in self._counts.values():
                total += counts
        ended = sum(total[what] for what in ("answered", "cancelled", "failed", "wrong", "unexpected"))
        return {
            "total": {**total, "unaccounted": total["submitted"] - ended},
            "by_kind": kinds,
            "faults": list(self.faults),
        }
