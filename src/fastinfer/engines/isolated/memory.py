"""Memory that an engine's process and its parent share. It has no name, so nothing is left of it when both are gone."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from bisect import insort
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fastinfer.errors import EngineDeadError

__all__ = ["Arena", "SharedView"]

#: Bytes that places are rounded up to.
_GRAIN: Final = 4096


class Arena:
    """The parent's side: gives out places in the memory. Safe from any thread.

    Args:
        most: bytes of all places together; those that are taken at once may be larger while there are no others.

    Attributes:
        descriptor: to be inherited by the child.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._capacity = self._used = 0
        #: (offset, bytes) of what is free below the capacity, in order.
        self._free: list[tuple[int, int]] = []
        self._taken: dict[int, int] = {}
        #: Places to be given back, by whom holds no lock.
        self._returned: deque[int] = deque()
        self._map: mmap.mmap | None = None
        self.descriptor = _anonymous_file()

    def take(self, size: int, *, always: bool = False) -> int | None:
        """The offset of a place for so many bytes.

        None where all places are taken and not ``always``, and where the memory was given back.
        """
        places = self.take_all([size], always=always)
        return None if places is None else places[0]

    def take_all(self, sizes: Sequence[int], *, always: bool = False) -> list[int] | None:
        """The offsets of places for several, all or none; otherwise :meth:`take`."""
        while self._returned:
            self.give(self._returned.popleft())
        rounded = [max(_GRAIN, -(-size // _GRAIN) * _GRAIN) for size in sizes]
        with self._lock:
            if self.descriptor < 0:
                return None
            if self._used and self._used + sum(rounded) > self._most and not always:
                return None
            return [self._place(size) for size in rounded]

    def give(self, offset: int) -> None:
        """Give a place back; one that was given back already is none."""
        with self._lock:
            size = self._taken.pop(offset, 0)
            if size:
                self._used -= size
                insort(self._free, (offset, size))
                self._free = _joined(self._free)

    def give_later(self, offset: int) -> None:
        """Give a place back with the next one that is taken. Takes no lock, as the garbage collector may call."""
        self._returned.append(offset)

    def array(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A place as an array; not to be used any more once it was given back."""
        if self._map is None:
            raise EngineDeadError("The engine was closed.", hint="Create a new one.")
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)

    def close(self) -> None:
        """Give the memory back. Idempotent; arrays that are still used keep it."""
        with self._lock:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1
                self._map = None  # it has a descriptor of its own

    def _place(self, size: int) -> int:
        for index, (offset, room) in enumerate(self._free):
            if room >= size:
                self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
                break
        else:
            offset = self._grow(size)
        self._taken[offset] = size
        self._used += size
        return offset

    def _grow(self, size: int) -> int:
        start = self._capacity
        if self._free and sum(self._free[-1]) == start:
            start = self._free.pop()[0]
        capacity = max(start + size, 2 * self._capacity)
        os.ftruncate(self.descriptor, capacity)
        # Arrays keep the map that they were made of.
        self._map = mmap.mmap(self.descriptor, capacity)
        self._capacity = capacity
        if capacity > start + size:
            self._free.append((start + size, capacity - start - size))
        return start


class SharedView:
    """The child's side.

    Args:
        descriptor: of the memory.
        writable: whether the child may change it.
    """

    def __init__(self, descriptor: int, *, writable: bool) -> None:
        self._descriptor, self._access = descriptor, mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map: mmap.mmap | None = None

    def array(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A place as an array."""
        count = int(np.prod(shape, dtype=np.int64))
        if self._map is None or len(self._map) < offset + count * np.dtype(dtype).itemsize:
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size, access=self._access)
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fastinfer")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _joined(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours as one."""
    joined: list[tuple[int, int]] = []
    for offset, size in places:
        if joined and sum(joined[-1]) == offset:
            joined[-1] = joined[-1][0], joined[-1][1] + size
        else:
            joined.append((offset, size))
    return joined
