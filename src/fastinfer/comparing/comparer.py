"""Two presets on the user's own images, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from fastinfer.classify import Classifier
from fastinfer.comparing.collection import Collection, collect
from fastinfer.comparing.results import Comparison
from fastinfer.comparing.sides import Contestant, turns
from fastinfer.comparing.summary import Tally
from fastinfer.errors import LabelError, PresetError
from fastinfer.images import ImageSource
from fastinfer.preset_library import Preset

__all__ = ["compare"]


def compare(
    a: str | Preset | Classifier,
    b: str | Preset | Classifier,
    images: str | os.PathLike[str] | Iterable[ImageSource],
    *,
    labels: Iterable[str] | None = None,
    truth: Iterable[str | None] | None = None,
    model: str | os.PathLike[str] | None = None,
    kind: Literal["classify"] = "classify",
    at_once: bool | None = None,
    strict: bool = False,
    progress: bool = False,
) -> Comparison:
    """Run two presets on the same images and say where, how often and how surely they differ.

    Both get the images in turns of a few batches, so that a machine that slows down slows both, and no more than one
    turn's images are held in memory. Images that fail with one of the two are listed and left out of the figures.

    Args:
        a: a preset of kind "classify", its name, or an open classifier, which stays open.
        b: the other one.
        images: a folder, searched at every depth; or an iterable of what :meth:`fastinfer.Classifier.classify` takes.
        labels: the label set. None takes that of an open classifier, else the names of the folder's subfolders, else
            the labels in ``truth``; where there are none of these, the models name what they see.
        truth: the right label of each image where ``images`` is no folder, None for one that is not known. In a
            folder, a subfolder's name is the truth of all images below it.
        model: the model for both presets; None takes each one's own, which ``preset.replace(model=...)`` changes.
        kind: ``"classify"``; chats are not compared on images.
        at_once: have both open together. False opens one after the other, for GPUs that hold only one; the images must
            be a folder or a list then. None tries both together, and goes on one by one where memory does not do.
        strict: as for :func:`fastinfer.classifier`.
        progress: show a progress bar.

    Raises:
        PresetError: a preset is unknown or of another kind; or images that come once are to be gone through twice.
        ImageDecodeError: there is no such folder, there are no images, or none of them could be classified.
        LabelError: the labels cannot be scored, are fewer than two, or do not fit ``truth`` or each other.
        FastInferError: as :func:`fastinfer.classifier`.
    """
    if kind != "classify":
        raise PresetError(
            f"Presets of kind {kind!r} are not compared on images.", hint='Leave out kind, or "classify".'
        )
    contestants = Contestant(a, model, strict), Contestant(b, model, strict)
    collection = collect(images, _own_labels(*contestants) if labels is None else labels, truth)
    if at_once is False and not collection.repeatable:
        raise PresetError(
            "One preset after the other needs the images twice, and these come once.",
            hint="Pass a folder or a list of images, or leave out at_once.",
        )
    tally = Tally()
    with _bar(collection, progress) as bar:
        for turn in turns(*contestants, collection, at_once):
            tally.add(turn)
            bar.update(len(turn.items))
    return tally.comparison(*contestants, collection.labels)


def _own_labels(a: Contestant, b: Contestant) -> tuple[str, ...] | None:
    """The labels of the classifiers that are open."""
    if a.labels is not None and b.labels is not None and set(a.labels) != set(b.labels):
        raise LabelError(
            "The two classifiers have different labels.", hint="Pass labels=[...], which both will be given."
        )
    return a.labels if a.labels is not None else b.labels


@contextmanager
def _bar(collection: Collection, progress: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    with tqdm(total=collection.count, unit="image", disable=not progress) as bar:
        yield bar
