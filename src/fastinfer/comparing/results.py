"""What comparing two presets gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from fastinfer.comparing.statistics import PairedDifference, Share
from fastinfer.provenance import Provenance
from fastinfer.showing import Report, Shown

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Answer", "ComparedImage", "Comparison", "Side", "SpeedRatio"]

_SHEET_IN_NOTEBOOK: Final = 24


@dataclass(frozen=True, slots=True)
class Answer:
    """What one side said about an image.

    Attributes:
        label: the likeliest label; None if the image failed.
        confidence: its probability, 0 to 1.
        label_mass: the probability of the label set among all answers, 0 to 1.
        error: the kind of error and what it said, if the image failed; else None.
    """

    label: str | None
    confidence: float
    label_mass: float
    error: str | None = None

    def __str__(self) -> str:
        return self.error or f"{self.label} {self.confidence:.1%}"


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """An image with both answers.

    Attributes:
        name: its path in the folder, else its place among the images and what it is.
        path: where the file is; None for an image that was in memory.
        truth: the right label; None where it is not known.
        a: the first side's answer.
        b: the second side's.
        difference: the largest difference of a label's probability between the two, 0 to 1; 0 if the image failed.
    """

    name: str
    path: str | None
    truth: str | None
    a: Answer
    b: Answer
    difference: float

    @property
    def ok(self) -> bool:
        """Both sides classified it."""
        return self.a.error is None and self.b.error is None

    @property
    def agrees(self) -> bool:
        """Both sides classified it and gave the same label."""
        return self.ok and self.a.label == self.b.label


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared. Everything is over the images that both sides classified.

    Attributes:
        name: the preset's name with the fields that were changed.
        provenance: what ran.
        accuracy: how many of the images with a truth it got right; None without a truth.
        mean_label_mass: mean probability of the label set among all answers, 0 to 1.
        images_per_second: all images, those that failed too, over the time that they took.
        memory: bytes by which opening it and its first images made the process grow; what both sides share counts with
            that which was opened first. None for a classifier that was open, and where it was not seen.
        gpu_memory: bytes that closing it gave back on its GPU; None for a classifier that stays open, and on a CPU.
        failed: images that it could not classify.
    """

    name: str
    provenance: Provenance
    accuracy: Share | None
    mean_label_mass: float
    images_per_second: float
    memory: int | None
    gpu_memory: int | None
    failed: int


@dataclass(frozen=True, slots=True)
class SpeedRatio:
    """Images a second of b over those of a.

    Attributes:
        median: of the turns, in each of which both had the same images one after the other.
        low: the lowest turn.
        high: the highest turn.
        turns: how many there were; with one turn nothing is said about the spread.
    """

    median: float
    low: float
    high: float
    turns: int

    def __str__(self) -> str:
        spread = f" ({self.low:.2f} to {self.high:.2f}, {self.turns} turns)" if self.turns > 1 else ""
        return f"{self.median:.2f} times{spread}"


@dataclass(frozen=True, slots=True)
class Comparison(Shown):
    """Two presets on the same images. ``str()`` gives text; notebooks and rich consoles show tables.

    Attributes:
        a: the first side.
        b: the second side.
        labels: the label set; None where the models named what they saw.
        images: every image in order, also those that failed.
        accuracy_difference: the accuracy of b less that of a, paired; None without a truth.
        agreement: how many of the images that both classified got the same label from both.
        kappa: Cohen's kappa of the two; None where it is not defined, see :func:`cohen_kappa`.
        speed: the speed of b over that of a.
        at_once: both were loaded at the same time, and took turns; else the speed is that of two runs.
        remarks: what to know to read the figures.
    """

    a: Side
    b: Side
    labels: tuple[str, ...] | None
    images: tuple[ComparedImage, ...]
    accuracy_difference: PairedDifference | None
    agreement: Share
    kappa: float | None
    speed: SpeedRatio
    at_once: bool
    remarks: tuple[str, ...] = ()
    _thumbnails: Mapping[str, Image] = field(default_factory=dict, repr=False, compare=False)

    @property
    def disagreements(self) -> tuple[ComparedImage, ...]:
        """The images that got two labels, those whose probabilities differ most first."""
        found = [image for image in self.images if image.ok and not image.agrees]
        return tuple(sorted(found, key=lambda image: -image.difference))

    @property
    def failures(self) -> tuple[ComparedImage, ...]:
        """The images that a side could not classify, in order."""
        return tuple(image for image in self.images if not image.ok)

    def contact_sheet(self, n: int = _SHEET_IN_NOTEBOOK) -> Image:
        """The disagreements as one picture: each with its name, the truth, and both labels with their probabilities.

        Files are read again; of images in memory, small copies of those that differ most were kept.

        Args:
            n: the most images on it, at least 1; those whose probabilities differ most.

        Returns:
            an RGB image, 4 images wide and as high as is needed; it says so if there is no disagreement.
        """
        from fastinfer.comparing.sheet import contact_sheet

        return contact_sheet(self, n)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain values that JSON can hold, every image among them."""
        return {
            "a": asdict(self.a),
            "b": asdict(self.b),
            "labels": None if self.labels is None else list(self.labels),
            "accuracy_difference": None if self.accuracy_difference is None else asdict(self.accuracy_difference),
            "agreement": asdict(self.agreement),
            "kappa": self.kappa,
            "speed": asdict(self.speed),
            "at_once": self.at_once,
            "remarks": list(self.remarks),
            "images": [asdict(image) for image in self.images],
        }

    def _picture(self) -> str:
        from fastinfer.comparing.sheet import as_base64

        return as_base64(self.contact_sheet()) if self.disagreements else ""

    def _report(self) -> Report:
        from fastinfer.comparing.report import report

        return report(self)
