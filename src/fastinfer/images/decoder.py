"""From any image source to what an engine takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .decode import decode
from .load import DEFAULT_MAX_PIXELS, FORMATS, as_array, load_rgb_array
from .prepared import EngineImage, ImagePreparation, Pixels
from .source import ImageSource

__all__ = ["Decoder", "Decodes"]


class Decodes(Protocol):
    """Decodes images for an engine, here or elsewhere. Safe to use from several threads at once."""

    def load(self, source: ImageSource) -> EngineImage:
        """One image.

        Raises:
            ImageDecodeError: the source cannot be read as an image, or the model takes none of its shape.
        """
        ...

    def close(self) -> None:
        """Give up what is held for it. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes in the calling thread. Can be pickled, to do the same in another process.

    Attributes:
        max_pixels: as for :func:`fastinfer.images.load_image`.
        size: likewise.
        preparation: what is done to the pixels; None leaves them as they are.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    size: tuple[int, int] | None = None
    preparation: ImagePreparation | None = None

    def load(self, source: ImageSource) -> EngineImage:
        """One image from any source.

        Raises:
            ImageDecodeError: the source cannot be read as an image, or the model takes none of its shape.
        """
        return self._prepared(load_rgb_array(source, max_pixels=self.max_pixels, size=self.size))

    def decode(self, data: bytes, name: object) -> EngineImage:
        """One image from a file's bytes; errors call it by ``str(name)``.

        Raises:
            ImageDecodeError: as :meth:`load`.
        """
        image = decode(data, name, max_pixels=self.max_pixels, formats=FORMATS, size=self.size)
        return self._prepared(as_array(image))

    def close(self) -> None:
        """Nothing is held."""

    def _prepared(self, pixels: Pixels) -> EngineImage:
        return pixels if self.preparation is None else self.preparation.prepare(pixels)
