"""What a contender is asked, and what it answers. All of them import it: standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

How = Literal["together", "one by one", "prepared"]


@dataclass(frozen=True)
class Work:
    """Pictures to classify.

    Attributes:
        images: files as bytes.
        labels: labels in place of those the contender was opened with; ours only.
        total: how many pictures to classify, more than ``images``: further ones are made of them on the way.
        first: the variant of ``images`` that those begin with.
        how: ``"together"``; ``"one by one"``, each only when the one before is answered; or ``"prepared"``, together,
            but decoded before the clock starts, so that the engine alone is timed; ours only.
        keep: answer with all probabilities; ours only.
    """

    images: list[bytes]
    labels: tuple[str, ...] | None = None
    total: int | None = None
    first: int = 0
    how: How = "together"
    keep: bool = False


@dataclass
class Done:
    """What became of them.

    Attributes:
        seconds: from the first file to the last answer, decoding included.
        images: how many were answered.
        each_ms: time of each, where they went one by one.
        prompt_tokens: median length of a prompt with its image, in tokens.
        generated_tokens: tokens generated for a picture, on average; 0 where labels are scored.
        errors: what went wrong, a line for each picture that failed.
        labels: the label of each, with ``Work.keep``.
        probabilities: (images, labels) with ``Work.keep``, in the order of the labels given.
        label_mass: (images,) with ``Work.keep``.
        memory: resident and GPU memory, MB, where it was watched.
    """

    seconds: float
    images: int
    each_ms: list[float] = field(default_factory=list)
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    errors: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    probabilities: list[list[float]] = field(default_factory=list)
    label_mass: list[float] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Answered pictures a second."""
        return self.images / self.seconds
