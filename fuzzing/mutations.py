"""Inputs that are nearly sound: seeds with a few changes, the same ones for the same seed of the generator."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

__all__ = ["mutations"]

#: Numbers at the edges of what a field can hold.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1)


def mutations(inputs: Sequence[bytes], words: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """So many changed inputs.

    Args:
        inputs: what is changed, each in turn.
        words: pieces of the format.
        count: how many to make.
        seed: another one gives others.
    """
    draw = random.Random(seed)
    for number in range(count):
        data = bytearray(inputs[number % len(inputs)])
        for _ in range(draw.choice((1, 1, 2, 3, 5, 8))):
            _change(data, inputs, words, draw)
        yield bytes(data)


def _change(data: bytearray, inputs: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice((1, 1, 2, 4, 8, 32, 256)))
    kind = draw.randrange(8)
    if kind == 0:  # a bit
        if at < len(data):
            data[at] ^= 1 << draw.randrange(8)
    elif kind == 1:  # other bytes
        data[at:end] = draw.randbytes(end - at)
    elif kind == 2:  # a stretch goes
        del data[at:end]
    elif kind == 3:  # a stretch twice
        data[at:at] = data[at:end]
    elif kind == 4:  # a number of some width at the edge of what it can hold
        size = draw.choice((1, 2, 4, 8))
        number = draw.choice(_NUMBERS) % (1 << (8 * size))
        data[at : at + size] = number.to_bytes(size, draw.choice(("little", "big")))
    elif kind == 5:  # the end is missing
        del data[at:]
    elif kind == 6:  # a stretch of another input
        other = draw.choice(inputs)
        begin = draw.randrange(len(other) + 1)
        data[at:end] = other[begin : begin + draw.choice((4, 16, 64, 256))]
    else:  # a piece of the format
        data[at : draw.choice((at, end))] = draw.choice(words) if words else b"\0"
