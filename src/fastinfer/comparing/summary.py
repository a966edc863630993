"""From what two classifiers said, turn by turn, to the figures of a comparison."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Final

from fastinfer.comparing.collection import Item
from fastinfer.comparing.results import Answer, ComparedImage, Comparison, Side, SpeedRatio
from fastinfer.comparing.sheet import thumbnail
from fastinfer.comparing.sides import Contestant
from fastinfer.comparing.statistics import cohen_kappa, paired_difference, share
from fastinfer.comparing.sweep import Turn
from fastinfer.errors import ImageDecodeError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Tally"]

#: Small copies kept of images that cannot be read again; each takes up to 110 kB.
_KEPT: Final = 96
#: A last turn of fewer images than this share of the first says little about speed.
_SHORT_TURN: Final = 0.5


class Tally:
    """Counts turns. What it keeps of an image is its answers, and of a few disagreements a small copy."""

    def __init__(self) -> None:
        self._images: list[ComparedImage] = []
        self._taken: list[tuple[int, float, float]] = []
        self._at_once = True
        self._thumbnails: dict[str, tuple[float, Image]] = {}

    def add(self, turn: Turn) -> None:
        """Count a turn."""
        self._at_once = turn.together
        self._taken.append((len(turn.items), turn.a.seconds, turn.b.seconds))
        for item, a, b, of_a, of_b in zip(
            turn.items, turn.a.answers, turn.b.answers, turn.a.shares, turn.b.shares, strict=True
        ):
            image = ComparedImage(item.name, item.path, item.truth, a, b, _difference(a, b, of_a, of_b))
            self._images.append(image)
            if item.path is None and image.ok and not image.agrees:
                self._keep(item, image.difference)

    def comparison(self, a: Contestant, b: Contestant, labels: tuple[str, ...] | None) -> Comparison:
        """The comparison of all turns.

        Raises:
            ImageDecodeError: no image was classified by both.
        """
        good = [image for image in self._images if image.ok]
        if not good:
            first = self._images[0]
            raise ImageDecodeError(
                f"None of the {len(self._images)} images could be classified. The first is {first.name}: "
                f"{first.a.error or first.b.error}",
                hint="Pass images that can be read.",
            )
        judged = [image for image in good if image.truth is not None]
        only_a = sum(image.a.label == image.truth != image.b.label for image in judged)
        only_b = sum(image.b.label == image.truth != image.a.label for image in judged)
        return Comparison(
            a=self._side(a, [(image.truth, image.a) for image in good], [image.a for image in self._images], 1),
            b=self._side(b, [(image.truth, image.b) for image in good], [image.b for image in self._images], 2),
            labels=labels,
            images=tuple(self._images),
            accuracy_difference=paired_difference(only_a, only_b, len(judged)) if judged else None,
            agreement=share(sum(image.agrees for image in good), len(good)),
            kappa=cohen_kappa([(str(image.a.label), str(image.b.label)) for image in good]),
            speed=self._speed(),
            at_once=self._at_once,
            remarks=tuple(self._remarks(a, b, len(good) - len(judged))),
            _thumbnails={name: picture for name, (_, picture) in self._thumbnails.items()},
        )

    def _side(
        self, ran: Contestant, good: Sequence[tuple[str | None, Answer]], every: Sequence[Answer], place: int
    ) -> Side:
        judged = [(truth, answer) for truth, answer in good if truth is not None]
        right = sum(answer.label == truth for truth, answer in judged)
        assert ran.provenance is not None
        return Side(
            name=ran.name,
            provenance=ran.provenance,
            accuracy=share(right, len(judged)) if judged else None,
            mean_label_mass=fmean(answer.label_mass for _, answer in good),
            images_per_second=len(every) / sum(turn[place] for turn in self._taken),
            memory=ran.memory,
            gpu_memory=ran.gpu_memory,
            failed=sum(answer.error is not None for answer in every),
        )

    def _speed(self) -> SpeedRatio:
        most = self._taken[0][0]
        ratios = [of_a / of_b for count, of_a, of_b in self._taken if count >= _SHORT_TURN * most]
        return SpeedRatio(median(ratios), min(ratios), max(ratios), len(ratios))

    def _remarks(self, a: Contestant, b: Contestant, unknown: int) -> Iterator[str]:
        if a.provenance == b.provenance:
            yield "Both ran the same model with the same values: what differs is chance."
        if not self._at_once:
            yield "They ran one after the other, not in turns: the machine may have been slower for one of them."
        if 0 < unknown < len(self._images):
            yield f"Images whose label is not known, which count in the agreement alone: {unknown}."

    def _keep(self, item: Item, difference: float) -> None:
        """A small copy for the contact sheet, instead of that which differs least if there are enough."""
        self._thumbnails[item.name] = difference, thumbnail(item.source)
        if len(self._thumbnails) > _KEPT:
            del self._thumbnails[min(self._thumbnails, key=lambda name: self._thumbnails[name][0])]


def _difference(a: Answer, b: Answer, of_a: array[float], of_b: array[float]) -> float:
    """The largest difference of a label's probability; a name that a model did not give counts as 0."""
    if a.error is not None or b.error is not None:
        return 0.0
    if of_a:
        return max(abs(x - y) for x, y in zip(of_a, of_b, strict=True))
    return abs(a.confidence - b.confidence) if a.label == b.label else max(a.confidence, b.confidence)
