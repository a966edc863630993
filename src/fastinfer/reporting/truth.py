"""The right label of each result: aligned with them, by name, or from the folder that an image is in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final, Protocol

from fastinfer.errors import LabelError
from fastinfer.reporting.files import rows_in
from fastinfer.reporting.names import shown

__all__ = ["FOLDERS", "GivenTruth", "Truth", "below", "read_truth"]

#: Asks for the folders' names as the truth.
FOLDERS: Final = "folders"

GivenTruth = Iterable[str | None] | Mapping[str, str | None] | str | os.PathLike[str] | None

_NONE_LEFT: Final = object()
_ONE_EACH: Final = "Give one label for each result, in the same order; None where it is not known."
_AMBIGUOUS: Final = "Pass truth as a list in the order of the results, or results that have whole paths."


class Truth(Protocol):
    """Tells the right label of results that come one after the other."""

    def of(self, name: str, path: str | None) -> str | None:
        """The right label of the next result; None where it is not known.

        Args:
            name: what the result is called.
            path: where its image is; None for one in memory.
        """
        ...

    def end(self) -> Iterator[str]:
        """There are no more results: what there is to remark."""
        ...


def read_truth(truth: GivenTruth, folder: Path | None) -> Truth | None:
    """What tells the truth in the form that the caller gave it.

    Args:
        truth: see :func:`fastinfer.report`.
        folder: where the images are; names of results may begin with it.

    Returns:
        None where there is no truth.

    Raises:
        LabelError: it is of another type, or its file has other columns.
        FastInferError: its file cannot be read.
    """
    if truth is None:
        return None
    if truth == FOLDERS:
        return _OfFolders(folder)
    if isinstance(truth, (str, os.PathLike)):
        return _Named(_of_file(truth), folder)
    if isinstance(truth, Mapping):
        return _Named(truth.items(), folder)
    if isinstance(truth, Iterable) and not isinstance(truth, bytes):
        return _Aligned(truth)
    raise LabelError(f"truth is a {type(truth).__name__}.", hint="Pass a list, a dict, a file, or 'folders'.")


def below(folder: Path | None, name: str) -> str:
    """A name without the folder that it may begin with, its parts separated by slashes."""
    path = PurePath(name)
    if folder is not None and path.is_relative_to(folder):
        path = path.relative_to(folder)
    return path.as_posix()


class _Aligned:
    """One label for each result."""

    def __init__(self, labels: Iterable[Any]) -> None:
        self._labels = iter(labels)
        self._count = 0

    def of(self, name: str, path: str | None) -> str | None:
        label = next(self._labels, _NONE_LEFT)
        if label is _NONE_LEFT:
            raise LabelError(f"There are more results than the {self._count} labels in truth.", hint=_ONE_EACH)
        self._count += 1
        return _checked(label, f"Truth {self._count - 1}")

    def end(self) -> Iterator[str]:
        more = sum(1 for _ in self._labels)
        if more:
            raise LabelError(f"truth has {self._count + more} labels for {self._count} results.", hint=_ONE_EACH)
        return iter(())


class _OfFolders:
    """The folder that an image is in.

    A result's own path is relative to the folder of its job, and its first part is the label, as in a comparison. Any
    other path may begin anywhere; there the folder that the image lies in is.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._found = False

    def of(self, name: str, path: str | None) -> str | None:
        own = PurePosixPath(below(self._folder, name))
        if len(own.parts) > 1 and not own.is_absolute():
            label = own.parts[0]
        else:
            label = (own if len(own.parts) > 1 or path is None else PurePath(path)).parent.name
        self._found = self._found or bool(label)
        return label or None

    def end(self) -> Iterator[str]:
        if not self._found:
            raise LabelError(
                "No result is in a folder, so that folders cannot be the truth.",
                hint="Pass images= with the images' paths, or truth as a list or a dict.",
            )
        return iter(())


class _Named:
    """A label by name: that of the result or of its image, or one that ends like it, part by part."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]], folder: Path | None) -> None:
        self._folder = folder
        self._labels: dict[str, str | None] = {}
        self._by_file: dict[str, list[str]] = {}
        for name, label in pairs:
            key = below(folder, os.fspath(name) if isinstance(name, os.PathLike) else str(name))
            self._labels[key] = _checked(label, f"The truth of {shown(key)}")
            self._by_file.setdefault(PurePosixPath(key).name, []).append(key)
        self._found_exactly: dict[str, bool] = {}
        self._again = 0

    def of(self, name: str, path: str | None) -> str | None:
        keys = [below(self._folder, called) for called in (path, name) if called is not None]
        found = next((key for key in keys if key in self._labels), None)
        exactly = found is not None
        if found is None:
            found = next(filter(None, map(self._ending_like, keys)), None)
        if found is None:
            return None
        if found in self._found_exactly:
            if not (exactly and self._found_exactly[found]):
                raise LabelError(f"The truth of {shown(found)} fits several results.", hint=_AMBIGUOUS)
            self._again += 1
        self._found_exactly[found] = exactly
        return self._labels[found]

    def _ending_like(self, key: str) -> str | None:
        parts = PurePosixPath(key).parts
        same_file = self._by_file.get(parts[-1], ()) if parts else ()
        fitting = [known for known in same_file if _ends_alike(parts, PurePosixPath(known).parts)]
        return fitting[0] if len(fitting) == 1 else None

    def end(self) -> Iterator[str]:
        if self._again:
            yield f"Results that are called like one before them, and got the same truth: {self._again:,}."
        unused = [name for name in self._labels if name not in self._found_exactly]
        if unused:
            yield f"Names in truth that no result has: {len(unused):,}; the first is {shown(unused[0])}."


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def _of_file(file: str | os.PathLike[str]) -> Iterator[tuple[str, str | None]]:
    for row in rows_in(file):
        name = row.get("path") or row.get("source")
        if not isinstance(name, str) or "label" not in row:
            raise LabelError(
                f"{os.fspath(file)} has the columns {', '.join(map(repr, row))}, not path and label.",
                hint="Name the columns path and label.",
            )
        yield name, row["label"] or None


def _checked(label: Any, what: str) -> str | None:
    if label is None or (isinstance(label, str) and label.strip()):
        return label
    if isinstance(label, str):
        raise LabelError(f"{what} is empty.", hint=_ONE_EACH)
    raise LabelError(f"{what} is a {type(label).__name__}, not a string: {label!r}.", hint=_ONE_EACH)
