"""A job's bar: done and total, rate, time left, errors, and what it waits for."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Final

from fastinfer.jobs.bottleneck import Spent, bottleneck

__all__ = ["Progress"]

#: Seconds between two looks at what the job waits for.
_LOOK_EVERY: Final = 1.0


class Progress:
    """A context manager around a bar of tqdm, which is a widget in a notebook; nothing where it is not shown.

    Args:
        total: items.
        unit: what an item is called.
        shown: show it.
    """

    def __init__(self, total: int, unit: str, *, shown: bool) -> None:
        self._bar: Any = None
        self._errors = 0
        self._looked = time.monotonic()
        if shown:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit=unit)

    def done(self, spent: Spent, *, failed: bool) -> None:
        """Another item has its outcome."""
        if self._bar is None:
            return
        self._errors += failed
        now = time.monotonic()
        if failed or now - self._looked >= _LOOK_EVERY:
            self._looked = now
            errors = f"{self._errors} error{'' if self._errors == 1 else 's'}, " if self._errors else ""
            self._bar.set_postfix_str(f"{errors}{bottleneck(spent)}", refresh=False)
        self._bar.update()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
