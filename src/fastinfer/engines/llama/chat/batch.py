"""A step's parts written into the rows that llama.cpp reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.context import Rows

__all__ = ["Filled", "Part", "fill"]

#: A request, and how many of its pending tokens a step evaluates.
Part = tuple[Request, int]


@dataclass(frozen=True, slots=True)
class Filled:
    """A batch.

    Attributes:
        count: rows of it.
        last: (request, tokens, row) of each part: the row of its last token.
        surplus: (sequence, position) of rows that nobody reads.
    """

    count: int
    last: list[tuple[Request, int, int]]
    surplus: Sequence[tuple[int, int]]


def fill(rows: Rows, parts: Sequence[Part], surplus: Sequence[tuple[int, int]]) -> Filled:
    """Write parts, and rows that nobody reads, into ``rows`` in ascending order of their sequences."""
    last = []
    at = 0
    filler = sorted(surplus, reverse=True)
    for request, count in sorted(parts, key=_sequence):
        while filler and filler[-1][0] < request.sequence:
            at = _surplus_row(rows, at, *filler.pop())
        end, done, position = at + count, request.done, request.position(request.done)
        if count == 1:
            rows.tokens[at] = request.tokens[done]
            rows.positions[at] = position
            rows.sequences[at] = request.sequence
        else:
            rows.tokens[at:end] = request.tokens[done : done + count]
            rows.positions[at:end] = np.arange(position, position + count)
            rows.sequences[at:end] = request.sequence
            rows.wanted[at : end - 1] = 0
        rows.wanted[end - 1] = done + count == request.length
        last.append((request, count, end - 1))
        at = end
    while filler:
        at = _surplus_row(rows, at, *filler.pop())
    return Filled(at, last, surplus)


def _sequence(part: Part) -> int:
    return part[0].sequence


def _surplus_row(rows: Rows, at: int, sequence: int, position: int) -> int:
    rows.tokens[at], rows.positions[at], rows.sequences[at], rows.wanted[at] = 0, position, sequence, 0
    return at + 1
