"""The images to compare on: a folder or any iterable, with what each shows where that is known."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path

from fastinfer.classify.labels import check_labels
from fastinfer.errors import ImageDecodeError, LabelError
from fastinfer.images import ImageSource, describe_source
from fastinfer.images.folder import images_below

__all__ = ["Collection", "Item", "collect"]

_FEWEST_LABELS = 2


@dataclass(frozen=True, slots=True)
class Item:
    """An image of a collection.

    Attributes:
        source: the image itself.
        name: what results call it: its path in the folder, else its place among the images and what it is.
        path: where it can be read again; None for an image in memory.
        truth: the label that it should get; None where that is not known.
    """

    source: ImageSource
    name: str
    path: str | None
    truth: str | None


@dataclass(frozen=True, slots=True)
class Collection:
    """Images with their labels. Iterating gives the items in order, as lazily as the caller's images come.

    Attributes:
        labels: the label set; None lets the model name what it sees.
        count: how many images there are; None where only iterating tells.
        repeatable: whether it may be iterated more than once.
    """

    labels: tuple[str, ...] | None
    count: int | None
    repeatable: bool
    _images: Iterable[ImageSource]
    _truth: tuple[str | None, ...] | None
    _folder: Path | None

    def __iter__(self) -> Iterator[Item]:
        images = iter(self._images)
        place = -1
        for place, source in enumerate(images):
            if self._truth is not None and place == len(self._truth):
                raise LabelError(f"There are more images than the {place} labels in truth.", hint=_ONE_EACH)
            path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
            if self._folder is not None and path is not None:
                name = Path(path).relative_to(self._folder).as_posix()
            else:
                name = f"{place}: {describe_source(source)}"
            yield Item(source, name, path, None if self._truth is None else self._truth[place])
        if self._truth is not None and place + 1 != len(self._truth):
            raise LabelError(f"truth has {len(self._truth)} labels for {place + 1} images.", hint=_ONE_EACH)


_ONE_EACH = "Give one label for each image, in the same order; None where it is not known."


def collect(
    images: str | os.PathLike[str] | Iterable[ImageSource],
    labels: Iterable[str] | None = None,
    truth: Iterable[str | None] | None = None,
) -> Collection:
    """Put images, labels and truth together, and check them as far as that needs no image.

    In a folder, images are looked for at every depth, hidden ones are skipped, and a subfolder's name is the truth of
    all images below it. Without ``labels`` the subfolders are the label set; with ``labels``, subfolders none of which
    is a label are taken for another way to keep files, and say nothing.

    Args:
        images: a folder, or an iterable of what :meth:`fastinfer.Classifier.classify` takes.
        labels: the label set; None takes the subfolders, or else the labels in ``truth``, where there are any.
        truth: the right label of each image, in their order, None for one that is not known; not for folders.

    Raises:
        ImageDecodeError: there is no such folder, or no image in it.
        LabelError: there is one label alone, the labels cannot be scored, or a truth is none of them.
    """
    if truth is not None and (isinstance(truth, (str, bytes)) or not isinstance(truth, Iterable)):
        raise LabelError(f"truth is of type {type(truth).__name__}, not a list of labels.", hint=_ONE_EACH)
    if isinstance(images, (str, os.PathLike)):
        if truth is not None:
            raise LabelError(
                "truth is for a list of images; the images of a folder are in no order of yours.",
                hint="Put the images into one subfolder for each label, or pass a list of paths.",
            )
        return _of_folder(Path(images), labels)
    if isinstance(images, bytes) or not isinstance(images, Iterable):
        raise ImageDecodeError(
            f"The images to compare on are of type {type(images).__name__}.", hint="Pass a folder or a list of images."
        )
    known = None if truth is None else tuple(truth)
    count = len(images) if isinstance(images, Sized) else None
    if known is not None and count is not None and len(known) != count:
        raise LabelError(f"truth has {len(known)} labels for {count} images.", hint=_ONE_EACH)
    names, known = _matched(labels, known)
    return Collection(names, count, iter(images) is not images, images, known, None)


def _of_folder(folder: Path, labels: Iterable[str] | None) -> Collection:
    if not folder.is_dir():
        raise ImageDecodeError(
            f"There is no folder {folder}.", hint="Pass a folder of images; for single files, a list of their paths."
        )
    try:
        paths = images_below(folder)
    except OSError as error:
        raise ImageDecodeError(
            f"The folder {error.filename} cannot be listed: {error.strerror or error}.", hint="Make it readable."
        ) from error
    if not paths:
        raise ImageDecodeError(
            f"There are no images in the folder {folder}.", hint="Pass a folder that has some, at any depth."
        )
    within = [path.relative_to(folder).parts for path in paths]
    truth = tuple(parts[0] if len(parts) > 1 else None for parts in within)
    named = None if labels is None else check_labels(labels)
    if named is not None and not set(_texts(truth).values()) & set(named.texts):
        truth = (None,) * len(paths)
    names, known = _matched(None if named is None else named.names, truth if any(truth) else None)
    return Collection(names, len(paths), True, [str(path) for path in paths], known, folder)


def _matched(
    labels: Iterable[str] | None, truth: tuple[str | None, ...] | None
) -> tuple[tuple[str, ...] | None, tuple[str | None, ...] | None]:
    """The label set, and each truth as the label set spells it."""
    texts = {} if truth is None else _texts(truth)
    if labels is None and not texts:
        return None, None
    named = check_labels(sorted(texts) if labels is None else labels)
    if len(named.names) < _FEWEST_LABELS:
        raise LabelError(
            f"There is one label alone, {named.names[0]!r}, which every image would get.",
            hint="Give labels=[...] with at least two, or images of several labels.",
        )
    spelt = dict(zip(named.texts, named.names, strict=True))
    strange = [name for name, text in texts.items() if text not in spelt]
    if strange:
        raise LabelError(
            f"The truth of some images is none of the labels: {', '.join(map(repr, strange[:5]))}"
            f"{' and more' if len(strange) > 5 else ''}.",
            hint=f"The labels are {', '.join(map(repr, named.names[:20]))}; add what is missing.",
        )
    if truth is None:
        return named.names, None
    return named.names, tuple(None if name is None else spelt[texts[name]] for name in truth)


def _texts(truth: Iterable[str | None]) -> dict[str, str]:
    """Each different truth with its text as labels are compared."""
    given = [name for name in truth if name is not None]
    for name in given:
        if not isinstance(name, str):
            raise LabelError(f"A truth is of type {type(name).__name__}, not a string: {name!r}.", hint=_ONE_EACH)
    different = list(dict.fromkeys(given))
    return dict(zip(different, check_labels(different).texts, strict=True)) if different else {}
