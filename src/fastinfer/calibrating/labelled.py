"""Labelled images as callers have them: pairs, or a folder with a subfolder for each label."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import compress
from typing import TYPE_CHECKING, Final, TypeAlias, Union

from fastinfer.calibrating.calibration import Calibration
from fastinfer.calibrating.conformal import check_coverage, rank_of
from fastinfer.calibrating.fitting import fit
from fastinfer.engines.base import Scores
from fastinfer.errors import LabelError, PresetError
from fastinfer.images import ImageSource
from fastinfer.provenance import Provenance

if TYPE_CHECKING:
    from fastinfer.classify.labels import LabelSet

__all__ = ["Labelled", "LabelledImages"]

Pair: TypeAlias = tuple[ImageSource, str]
#: What labelled images may be.
Labelled: TypeAlias = Union[str, "os.PathLike[str]", Iterable[Pair]]

_FEWEST_LABELS: Final = 2
_PAIRS: Final = "Pass (image, label) pairs, or a folder with a subfolder for each label."


class LabelledImages:
    """Images with the places of their right labels in a label set.

    A folder or a list is checked as a whole before any image is classified, another iterable pair by pair.

    Args:
        labelled: a folder whose subfolders are labels, searched at every depth, or pairs of an image and its label.
        labels: the label set; None for an open one.
        coverage: what the images are to be enough for.
        errors: ``"raise"``, or ``"skip"`` for images that fail.

    Attributes:
        labels: the label set.
        errors: the same in the words of :func:`fastinfer.ordered.run`.
        images: the images, as lazily as the pairs come.
        said: for the engine's answers to those that it classified, in their order.

    Raises:
        LabelError: there is no label set or only one label; an image has no label, or one that is not in the set; there
            are fewer images than the coverage needs.
        PresetError: the coverage is no number between 0 and 1, or ``errors`` neither of the two.
        ImageDecodeError: there is no such folder, or no image in it.
    """

    def __init__(self, labelled: Labelled, labels: LabelSet | None, coverage: float, errors: str) -> None:
        check_coverage(coverage)
        if errors not in ("raise", "skip"):
            raise PresetError(f"errors is {errors!r}.", hint="It is 'raise' or 'skip'.")
        if labels is None:
            raise LabelError(
                "The classifier has no labels, and what it names by itself is not calibrated.",
                hint="Give labels=[...] first.",
            )
        if len(labels.names) < _FEWEST_LABELS:
            raise LabelError(
                f"There is one label alone, {labels.names[0]!r}, which every image gets.",
                hint="Give labels=[...] with at least two.",
            )
        self.labels, self._coverage = labels, coverage
        self.errors = "return" if errors == "skip" else errors
        self.said: list[Scores] = []
        self._places = {text: place for place, text in enumerate(labels.texts)}
        self._known: dict[str, int] = {}
        self._truth: list[int] = []
        self.images: Iterable[ImageSource]
        if isinstance(labelled, (str, os.PathLike)):
            self.images = list(self._each(self._of_folder(labelled)))
        elif isinstance(labelled, bytes) or not isinstance(labelled, Iterable):
            raise LabelError(f"The labelled images are of type {type(labelled).__name__}.", hint=_PAIRS)
        elif isinstance(labelled, (list, tuple)):
            self.images = list(self._each(labelled))
        else:
            self.images = self._each(labelled)
        if isinstance(self.images, list):
            rank_of(len(self.images), coverage)

    def fit(self, went_well: list[bool], provenance: Provenance, prompt: str) -> Calibration:
        """The calibration of the answers in ``said``; see :func:`fastinfer.calibrating.fitting.fit`.

        Args:
            went_well: whether each image was classified.
            provenance: what ran.
            prompt: the question.

        Raises:
            LabelError: fewer images went well than the coverage needs.
        """
        return fit(
            [scores.labels for scores in self.said if scores.labels is not None],
            list(compress(self._truth, went_well)),
            skipped=went_well.count(False),
            labels=self.labels.names,
            coverage=self._coverage,
            model=provenance.model,
            prompt=prompt,
            preset_fingerprint=provenance.fingerprint,
        )

    def _of_folder(self, folder: str | os.PathLike[str]) -> Iterator[Pair]:
        # Imported here because comparing uses classifiers, and they use this module.
        from fastinfer.comparing.collection import collect

        for item in collect(folder, self.labels.names):
            if item.truth is None:
                raise LabelError(
                    f"{item.name} in {os.fspath(folder)} is in no subfolder that is one of the labels.",
                    hint=f"Put each image into the subfolder of its label. The labels are {self._listed()}.",
                )
            yield item.source, item.truth

    def _each(self, pairs: Iterable[Pair]) -> Iterator[ImageSource]:
        for pair in pairs:
            yield self._noted(pair)

    def _noted(self, pair: object) -> ImageSource:
        """The image of a pair, whose label is noted."""
        where = f"Item {len(self._truth)} of the labelled images"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise LabelError(f"{where} is not an (image, label) pair.", hint=_PAIRS)
        image: ImageSource = pair[0]
        self._truth.append(self._place(pair[1], where))
        return image

    def _place(self, label: object, where: str) -> int:
        if not isinstance(label, str):
            raise LabelError(f"{where} has a label of type {type(label).__name__}, not a string.", hint=_PAIRS)
        # Imported here because classify uses this module.
        from fastinfer.classify.labels import check_labels

        place = self._known.get(label)
        if place is None:
            place = self._places.get(check_labels([label]).texts[0])
            if place is None:
                raise LabelError(
                    f"{where} has the label {label!r}, which is none of the classifier's.",
                    hint=f"The labels are {self._listed()}; give others first where they are wrong.",
                )
            self._known[label] = place
        return place

    def _listed(self) -> str:
        names = self.labels.names
        return ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
