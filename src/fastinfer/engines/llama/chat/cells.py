"""Which cells of the KV cache are taken, and by how many sequences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["CellLedger"]

Ints = npt.NDArray[np.int32]


class CellLedger:
    """Counts the references to each of ``size`` cells. llama.cpp keeps the like, but does not tell.

    The numbers given out stand for cells, they are not llama.cpp's own: what matters is how many are free, and which
    sequences would free them.
    """

    def __init__(self, size: int) -> None:
        self._references = np.zeros(size, np.int32)
        self._stack: Ints = np.arange(size - 1, -1, -1, dtype=np.int32)
        self.free = size

    def take(self, count: int) -> Ints:
        """``count`` free cells, (count,) int32; there must be as many."""
        if count > self.free:
            raise RuntimeError(f"{count} cells asked for, {self.free} are free")
        self.free -= count
        taken: Ints = self._stack[self.free : self.free + count].copy()
        self._references[taken] = 1
        return taken

    def take_one(self) -> int:
        """One free cell; there must be one. Much faster than :meth:`take`, for the token that each reply adds."""
        if not self.free:
            raise RuntimeError("a cell asked for, none is free")
        self.free -= 1
        cell = int(self._stack[self.free])
        self._references[cell] = 1
        return cell

    def share(self, cells: Ints) -> None:
        """One more sequence uses these cells."""
        self._references[cells] += 1

    def release(self, cells: Ints) -> None:
        """One sequence less uses these cells; those that none uses are free again."""
        self._references[cells] -= 1
        freed = cells[self._references[cells] == 0]
        self._stack[self.free : self.free + len(freed)] = freed
        self.free += len(freed)

    def exclusive(self, cells: Ints) -> bool:
        """No cell of these is shared."""
        return bool((self._references[cells] == 1).all())
