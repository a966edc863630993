"""Images within a prompt: which cells of the KV cache they take, and which positions.

A prompt has one token for each cell. In the cells of an image these are numbers below 0, made from a hash of its
pixels: two prompts that are equal number by number show the same images at the same places, so that what is evaluated
can be shared by comparing numbers, as with text.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastinfer.engines.chat import Generation, PlacedImage
from fastinfer.engines.llama.model import RenderedPrompt
from fastinfer.engines.llama.vision import Chunk, ImageEncoder, Prepared

__all__ = ["Picture", "Pictures", "place_pictures"]

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

#: A prompt that is nothing but an image, and gets the tokens around it that the model wants.
_ALONE = RenderedPrompt(((None, True),), "")


@dataclass(slots=True, eq=False)
class Picture:
    """An image in a prompt, or one of the tiles that the model has it cut into.

    Attributes:
        start: its first cell.
        end: the cell after its last.
        position: its first position.
        chunk: mtmd's view of it.
        key: equal for equal pictures.
        embeddings: (end - start, width) float32 from its encoding until it is evaluated.
    """

    start: int
    end: int
    position: int
    chunk: Chunk
    key: tuple[bytes, int]
    embeddings: Floats | None = None


class Pictures:
    """The images of one request. Made in the caller's thread, then for the engine's only.

    Args:
        pictures: in the order of their cells.
        prepared: mtmd's memory behind them, freed by :meth:`close`.

    Attributes:
        served: the turn in which one of them was last evaluated.
    """

    def __init__(self, pictures: Sequence[Picture], prepared: Sequence[Prepared]) -> None:
        self._pictures, self._prepared = pictures, prepared
        self._starts = [p.start for p in pictures]
        self.served = 0

    def close(self) -> None:
        """Free the images. Idempotent."""
        for prepared in self._prepared:
            prepared.close()
        self._pictures, self._starts = (), []

    def at(self, cell: int) -> Picture | None:
        """The picture that takes a cell, or None where it holds text."""
        before = self._last(cell)
        return before if before is not None and cell < before.end else None

    def text_end(self, cell: int) -> int | None:
        """Where the text that a cell belongs to ends in a picture: ``cell`` within one, None after the last."""
        if self.at(cell) is not None:
            return cell
        index = bisect_right(self._starts, cell)
        return self._starts[index] if index < len(self._starts) else None

    def run_end(self, cell: int) -> int:
        """The cell after the pictures that follow one another from ``cell`` on without text between them."""
        while (picture := self.at(cell)) is not None:
            cell = picture.end
        return cell

    def within(self, start: int, end: int) -> list[Picture]:
        """The pictures that take cells from ``start`` to before ``end``."""
        return [p for p in self._pictures if p.start < end and p.end > start]

    def whole(self, length: int) -> int:
        """The most of the first ``length`` cells that cuts no picture."""
        last = self._last(length - 1)
        return last.start if last is not None and last.end > length else length

    def position(self, cell: int) -> int:
        """The position of a cell; within a picture one that is past those of the cells before."""
        last = self._last(cell)
        if last is None:
            return cell
        into, most = cell - last.start, last.end - last.start
        if into < most:
            # With multi-dimensional positions, all cells of a picture are at its first one.
            return last.position + (into if last.chunk.n_positions == most else min(into, 1) * last.chunk.n_positions)
        return last.position + last.chunk.n_positions + into - most

    def _last(self, cell: int) -> Picture | None:
        """The last picture that begins at or before a cell."""
        index = bisect_right(self._starts, cell)
        return self._pictures[index - 1] if index else None


def place_pictures(
    encoder: ImageEncoder, generation: Generation, images: Sequence[PlacedImage], at_once: int
) -> Generation:
    """Preprocess images and give them their places in a prompt. Safe in any thread, beside the encoder's.

    Args:
        encoder: of the model.
        generation: its tokens are the prompt's text.
        images: in order.
        at_once: most rows of a step.

    Returns:
        The generation with a number for each cell in ``tokens``, and :class:`Pictures` in ``images``.

    Raises:
        ImageDecodeError: the model's preprocessing refuses an image.
        PromptTooLongError: the model has to see an image at once that takes more cells than a step has rows.
    """
    tokens = generation.tokens
    known: dict[bytes, Prepared] = {}
    cells: list[Ints] = []
    pictures: list[Picture] = []
    taken = read = cell = position = 0
    for image in images:
        digest = _digest(image.pixels)
        if digest not in known:
            known[digest] = encoder.prepare(_ALONE, image.pixels, begins=False)
        cells.append(tokens[read : image.at])
        cell, position = cell + image.at - read, position + image.at - read
        read, taken = image.at, 0
        numbers = _numbers(digest, known[digest].n_tokens)
        for chunk in known[digest].chunks:
            if chunk.tokens is None:
                pictures.append(Picture(cell, cell + chunk.n_tokens, position, chunk, (digest, taken)))
                cells.append(numbers[taken : taken + chunk.n_tokens])
                taken += chunk.n_tokens
            else:
                cells.append(chunk.tokens)
            cell, position = cell + chunk.n_tokens, position + chunk.n_positions
    cells.append(tokens[read:])
    encoder.check_at_once(max((p.end - p.start for p in pictures), default=0), at_once)
    return replace(generation, tokens=np.concatenate(cells), images=Pictures(pictures, list(known.values())))


def _digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    shape = np.array(pixels.shape, np.int64).tobytes()
    return hashlib.blake2b(np.ascontiguousarray(pixels).reshape(-1).data, digest_size=32, salt=shape[:16]).digest()


def _numbers(digest: bytes, count: int) -> Ints:
    """Numbers below 0 for the cells of an image, (count,) int32, which all of the digest has gone into."""
    drawn = np.frombuffer(hashlib.shake_128(digest).digest(4 * count), np.uint32)
    return (-1 - (drawn >> 1).astype(np.int64)).astype(np.int32)
