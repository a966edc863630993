"""Silence for Pillow's warnings in the calling thread, and in that thread only."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import cast

__all__ = ["pillow_warnings_ignored"]


class _ThisThread(threading.local):
    depth = 0


_this_thread = _ThisThread()


class _PillowInThisThread:
    """Takes the place of a filter's module pattern: matches while this very thread is inside the context below."""

    def match(self, module: str) -> bool:
        return _this_thread.depth > 0 and module.partition(".")[0] == "PIL"


_FILTER = ("ignore", None, Warning, _PillowInThisThread(), 0)


@contextlib.contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore what Pillow warns of (odd metadata, oversized tags) in this thread until the block ends.

    ``warnings.catch_warnings`` would not do: it swaps the process's filter list, so two threads that overlap can
    restore each other's, and leave it changed for good. Here each thread puts one entry in front and takes one out,
    both single list operations. An entry says "ignore" only to the thread that is decoding, so other threads'
    warnings, Pillow's included, go where they went before, also where another thread's ``catch_warnings`` has kept
    a copy of the list with an entry in it.
    """
    filters = cast("list[object]", warnings.filters)
    filters.insert(0, _FILTER)
    _this_thread.depth += 1
    try:
        yield
    finally:
        _this_thread.depth -= 1
        # Not in the list if another thread has put an older list back meanwhile.
        with contextlib.suppress(ValueError):
            cast("list[object]", warnings.filters).remove(_FILTER)
