"""What a classification engine takes and gives, whichever library is behind it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastinfer.engines.scoring import LabelTrie
from fastinfer.images.prepared import EngineImage, ImagePreparation

__all__ = ["ClassifyEngine", "EngineDescription", "GroupingEngine", "Naming", "Scores", "Task"]


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What an engine is, for provenance.

    Attributes:
        engine: library and version.
        device: what it computes on.
        image_size: (width, height) in pixels that images are resized to, or None where the model takes any size.
        batched_images: several images are encoded in one pass.
        preparation: what is to be done to pixels before they are submitted; None where the engine takes pixels.
        path: how it scores, for provenance; "" where there is but one way.
    """

    engine: str
    device: str
    image_size: tuple[int, int] | None
    batched_images: bool
    preparation: ImagePreparation | None = None
    path: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What to do with an image. Requests that share a task are computed together.

    Attributes:
        prompt: the text after the image.
        trie: the label set's tokens; None names what is seen instead.
        max_tokens: most tokens of a name, without labels.
        opening: the text before the image; engines read it once for all images of a task.
        whole: its requests were queued at once, and are computed in one batch.
    """

    prompt: str
    trie: LabelTrie | None
    max_tokens: int
    opening: str = ""
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Naming:
    """A name an engine gave: its text and probability, the end of the answer included."""

    text: str
    probability: float
    complete: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """An engine's answer for one image.

    Attributes:
        labels: log-probability of each label over the full vocabulary, (labels,) float64; None without labels.
        naming: the name, without labels.
        queued_ms: from submission to the start of the batch.
        encode_ms: the vision encoder's share of the batch, divided by the images in it.
        score_ms: the language model's share of the batch, divided by the images in it; of an engine that makes its
            batches itself, all of the time in it.
        batch: images in the batch.
        prompt_tokens: tokens of the prompt with its image.
    """

    labels: npt.NDArray[np.float64] | None
    naming: Naming | None
    queued_ms: float
    encode_ms: float
    score_ms: float
    batch: int
    prompt_tokens: int


class ClassifyEngine(Protocol):
    """A running engine. Every method may be called from any thread."""

    @property
    def description(self) -> EngineDescription:
        """What the engine is."""
        ...

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        """Tokens of a label as an answer to the prompt."""
        ...

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        """Queue one image, prepared as the description says.

        Raises:
            EngineDeadError: the engine was closed or has died.
        """
        ...

    def go_by(self, alias: str) -> None:
        """Be called so in logs."""
        ...

    def limit_steps(self, seconds: float) -> None:
        """Count as hanging, and as dead, where a step takes longer."""
        ...

    def check_process(self) -> None:
        """Refuse work in another process than the engine's own; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        ...

    def close(self) -> None:
        """Fail what waits with EngineDeadError, free all memory. Idempotent."""
        ...


class GroupingEngine(ClassifyEngine, Protocol):
    """An engine that computes chosen images in one batch, so that their scores depend on nothing else."""

    @property
    def group_size(self) -> int:
        """The most images of a batch."""
        ...

    def submit_together(self, images: Sequence[EngineImage], task: Task) -> list[Future[Scores]]:
        """Queue at most ``group_size`` images, prepared as the description says, as a batch of their own.

        Raises:
            EngineDeadError: the engine was closed or has died.
        """
        ...
