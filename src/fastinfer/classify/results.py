"""What classification returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fastinfer.errors import FastInferError
from fastinfer.provenance import Provenance

__all__ = ["Classification", "Timings"]


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one image went, in milliseconds.

    Attributes:
        decode_ms: reading, decoding and resizing the image.
        queued_ms: from then until its batch started.
        encode_ms: the vision encoder's time for the batch, divided by the images in it.
        score_ms: the language model's time for the batch, divided by the images in it. TurboMind makes its batches
            itself and does not tell: there it is all of the time from the engine's queue to the answer.
        batch_size: images computed together.
    """

    decode_ms: float
    queued_ms: float
    encode_ms: float
    score_ms: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one image.

    Attributes:
        source: the image, in a few words: its file name, or what kind of object it was.
        label: the likeliest label; without a label set, the name the model gave; None if the image failed.
        confidence: the probability of ``label``, 0 to 1.
        probabilities: probability of each label over the label set, best first; they sum to 1. Without a label set,
            the one name with the probability that the model answers exactly so.
        label_mass: how probable the label set is among all answers the model might give, 0 to 1. Low values mean
            that the model would rather have said something else.
        prompt_tokens: tokens of the prompt with the image.
        timings: where the time went; None if the image failed.
        provenance: what ran.
        error: why the image failed, with ``errors="return"``; None if it did not. It has no traceback, whose frames
            would keep the image as long as the result is kept.
        prediction_set: the labels that the classifier's calibration cannot rule out at the coverage that was asked for,
            likeliest first; may be empty. None without a calibration for these labels.
        abstained: there is a prediction set, and it does not hold exactly one label: better not to answer.
    """

    source: str
    label: str | None
    confidence: float
    probabilities: dict[str, float]
    label_mass: float
    prompt_tokens: int
    timings: Timings | None
    provenance: Provenance
    error: FastInferError | None = field(default=None)
    prediction_set: tuple[str, ...] | None = field(default=None)
    abstained: bool = field(default=False)

    @property
    def ok(self) -> bool:
        """The image was classified."""
        return self.error is None

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` likeliest labels with their probabilities."""
        return list(self.probabilities.items())[:count]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values that JSON can hold."""
        error = None
        if self.error is not None:
            error = {"type": type(self.error).__name__, "message": str(self.error)}
        return {
            "source": self.source,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": dict(self.probabilities),
            "label_mass": self.label_mass,
            "prompt_tokens": self.prompt_tokens,
            "timings": None if self.timings is None else asdict(self.timings),
            "provenance": asdict(self.provenance),
            "error": error,
            "prediction_set": None if self.prediction_set is None else list(self.prediction_set),
            "abstained": self.abstained,
        }

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.source}: {type(self.error).__name__}: {self.error}"
        answer = f"{self.source}: {self.label} ({self.confidence:.1%})"
        if self.abstained:
            return f"{answer}; abstained: {', '.join(self.prediction_set or ()) or 'no label'}"
        return answer

    def _repr_html_(self) -> str:
        from fastinfer.tables.display import classification_report

        return classification_report(self).as_html()

    def __rich__(self) -> object:
        from fastinfer.tables.display import classification_report

        return classification_report(self).as_rich()
