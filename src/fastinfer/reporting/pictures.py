"""The images behind the results, and small copies of the few that are shown."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from PIL.Image import Image

from fastinfer.comparing.sheet import thumbnail
from fastinfer.errors import ImageDecodeError
from fastinfer.images import ImageSource
from fastinfer.reporting.truth import below

__all__ = ["GivenImages", "Pictures", "data_url", "folder_of", "read_pictures"]

GivenImages = str | os.PathLike[str] | Mapping[str, ImageSource] | Iterable[ImageSource] | None

_QUALITY: Final = 80
_ONE_EACH: Final = "Give one image for each result, in the same order."


class Pictures(Protocol):
    """Finds the images of results that come one after the other."""

    def of(self, name: str) -> ImageSource | None:
        """The image of the next result; None where there is none.

        Args:
            name: what the result is called.
        """
        ...

    def end(self) -> None:
        """There are no more results."""
        ...


def folder_of(images: GivenImages) -> Path | None:
    """The folder that the images are in, if that is what was given.

    Raises:
        ImageDecodeError: there is no such folder.
    """
    if not isinstance(images, (str, os.PathLike)):
        return None
    folder = Path(images)
    if not folder.is_dir():
        raise ImageDecodeError(f"There is no folder {folder}.", hint="Pass the folder that the results' paths are in.")
    return folder


def read_pictures(images: GivenImages) -> Pictures:
    """What finds the images in the form that the caller gave them.

    Raises:
        ImageDecodeError: they are of another type, or there is no such folder.
    """
    folder = folder_of(images)
    if folder is not None:
        return _InFolder(folder)
    if images is None:
        return _Named({})
    if isinstance(images, Mapping):
        return _Named(images)
    if isinstance(images, Iterable) and not isinstance(images, (str, bytes, os.PathLike)):
        return _Aligned(images)
    raise ImageDecodeError(f"images is a {type(images).__name__}.", hint="Pass a folder, a list, or a dict of images.")


def data_url(source: ImageSource) -> str | None:
    """A small copy of an image as a ``data:`` URL of a JPEG file; None where the image cannot be read."""
    try:
        small: Image = thumbnail(source)
    except ImageDecodeError:  # moved, changed, or never there: its place says so
        return None
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


class _InFolder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str) -> ImageSource | None:
        inside = os.path.normpath(below(self._folder, name))
        # A results file may come from anywhere, and must not put other files of this machine into a report.
        if Path(inside).is_absolute() or Path(inside).parts[0] == os.pardir:
            return None
        return str(self._folder / inside)

    def end(self) -> None:
        return


class _Named:
    def __init__(self, images: Mapping[str, ImageSource]) -> None:
        self._images = images

    def of(self, name: str) -> ImageSource | None:
        return self._images.get(name)

    def end(self) -> None:
        return


class _Aligned:
    def __init__(self, images: Iterable[ImageSource]) -> None:
        self._images = iter(images)
        self._count = 0

    def of(self, name: str) -> ImageSource | None:
        try:
            image = next(self._images)
        except StopIteration as error:
            raise ImageDecodeError(f"There are more results than the {self._count} images.", hint=_ONE_EACH) from error
        self._count += 1
        return image

    def end(self) -> None:
        more = sum(1 for _ in self._images)
        if more:
            raise ImageDecodeError(f"There are {self._count + more} images for {self._count} results.", hint=_ONE_EACH)
