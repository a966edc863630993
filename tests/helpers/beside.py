"""Other threads: work that goes on in them while something is tested, and waiting for what they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PATIENCE", "beside", "eventually"]

#: Longest wait for anything, in seconds; no test comes near it unless something hangs.
PATIENCE = 60.0


@contextmanager
def beside(work: Callable[[], object], *, threads: int = 1) -> Iterator[None]:
    """Do this again and again, in so many threads, until the block has ended in whatever way."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            work()

    workers = [threading.Thread(target=go_on) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        over.set()
        for worker in workers:
            worker.join()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
