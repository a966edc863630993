"""Work that goes on in other threads while something is tested."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["beside"]


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
