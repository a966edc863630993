"""How much two prompts have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["chunk_moves", "common_prefix", "find_chunk"]

Ints = npt.NDArray[np.int32]


def common_prefix(left: Ints, right: Ints) -> int:
    """Length of the longest beginning that two token arrays share."""
    most = min(len(left), len(right))
    if most == 0 or left[0] != right[0]:
        return 0
    different = left[:most] != right[:most]
    first = int(different.argmax())
    return first if different[first] else most


def find_chunk(kept: Ints, wanted: Ints, least: int) -> tuple[int, int]:
    """Where in ``kept`` a stretch begins that equals the beginning of ``wanted``.

    Args:
        kept, wanted: token arrays.
        least: shortest stretch that counts, at least 1.

    Returns:
        (place, length) of the first such stretch, or (-1, 0).
    """
    if len(wanted) < least or len(kept) < least:
        return -1, 0
    for place in np.flatnonzero(kept[: len(kept) - least + 1] == wanted[0]):
        length = common_prefix(kept[place:], wanted)
        if length >= least:
            return int(place), length
    return -1, 0


def chunk_moves(kept: Ints, wanted: Ints, prefix: int, least: int) -> tuple[list[tuple[int, int, int]], int]:
    """Which later stretches of ``kept`` continue ``wanted`` beyond their common beginning.

    Args:
        kept, wanted: token arrays.
        prefix: length of their common beginning.
        least: shortest stretch that counts, at least 1.

    Returns:
        (from, to, length) of each stretch in ascending order, and the tokens of ``wanted`` covered in the end.
    """
    moves: list[tuple[int, int, int]] = []
    at = place = prefix
    while True:
        found, length = find_chunk(kept[place:], wanted[at:], least)
        # At 0 it would be the common beginning itself that goes on, and that has ended.
        if found <= 0:
            return moves, at
        moves.append((place + found, at, length))
        place, at = place + found + length, at + length
