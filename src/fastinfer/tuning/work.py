"""The work that presets are compared at: the user's own prompts, or the user's own images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol

from fastinfer.chat.opening import llm
from fastinfer.classify.opening import classifier
from fastinfer.errors import ImageDecodeError, MessageError, PromptTooLongError
from fastinfer.measuring import Figures, Workload, measure_chat, measure_classify
from fastinfer.preset_library import Preset

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.classify import Classifier
    from fastinfer.images import ImageSource
    from fastinfer.prompts import Messages

__all__ = ["ChatWork", "ImageWork", "Work"]

#: Fewer replies than this say little of their latencies.
_LEAST_REPLIES: Final = 4
#: Room for the digits that a measurement puts before a prompt.
_SALT_TOKENS: Final = 16
#: Of a reply that only warms up.
_FEW_TOKENS: Final = 4
#: Images a second are measured for at least so many seconds, and that many at most.
_SHORTEST, _LONGEST = 0.25, 4.0
#: The part of the whole budget that the shortest measurement of images may take.
_PART: Final = 0.01


class Work(Protocol):
    """What the workbench has done."""

    #: The longest conversation of the sample with its reply, in tokens; 0 for images.
    tokens: int

    def open(self, preset: Preset) -> Any:
        """Load the preset's model; has ``provenance`` and ``close``."""
        ...

    def prepare(self, engine: Any) -> None:
        """What a freshly loaded engine does before it is measured."""
        ...

    def measure(self, engine: Any, amount: int) -> Figures:
        """Do some of the work; ``amount`` is a multiple of the least that says something."""
        ...

    def seconds(self, preset: Preset, amount: int, known: Figures) -> float:
        """About how long that takes with a preset, by the figures of another one."""
        ...

    def workload(self, preset: Preset) -> Workload:
        """What is to stand in a receipt."""
        ...


class ChatWork:
    """Prompts.

    Args:
        prompts: as :meth:`fastinfer.LLM.chat` takes them, at least one.
        model: as :func:`fastinfer.llm` takes it.
        max_tokens: of a reply.
        clients: how many ask at once; None is one for each slot of the preset that is measured.

    Raises:
        MessageError: there are no prompts, or one prompt and no list.
    """

    def __init__(
        self,
        prompts: Iterable[Messages],
        model: str | os.PathLike[str] | None,
        *,
        max_tokens: int,
        clients: int | None,
    ) -> None:
        if isinstance(prompts, (str, bytes)):
            raise MessageError("A list of prompts is expected as the sample.", hint="Put a single one into a list.")
        self.tokens = 0
        self._prompts = list(prompts)
        self._by_length: list[int] = []
        if not self._prompts:
            raise MessageError("The sample is empty.", hint="Give at least one prompt of those that you will ask.")
        self._model, self._max_tokens, self._clients = model, max_tokens, clients

    def open(self, preset: Preset) -> LLM:
        """Load the preset's model."""
        return llm(preset, model=self._model)

    def prepare(self, loaded: LLM) -> None:
        """A few tokens in every slot; the first time also the length of every prompt.

        Raises:
            PromptTooLongError: the longest prompt with its reply has no room in a slot.
        """
        if not self.tokens:
            self._read_lengths(loaded)
        slots = loaded.preset.parallel
        measure_chat(loaded, self._prompts[:1], max_tokens=_FEW_TOKENS, concurrency=slots, items=slots)

    def measure(self, loaded: LLM, amount: int) -> Figures:
        """``amount`` replies for each client, to prompts of evenly spread length."""
        count = self._count(loaded.preset, amount)
        size = len(self._prompts)
        chosen = self._prompts
        if count < size:
            places = sorted(self._by_length[(2 * i + 1) * size // (2 * count)] for i in range(count))
            chosen = [self._prompts[place] for place in places]
        return measure_chat(loaded, chosen, max_tokens=self._max_tokens, concurrency=self._clients, items=count)

    def seconds(self, preset: Preset, amount: int, known: Figures) -> float:
        """By the throughput of another preset."""
        return self._count(preset, amount) * self._max_tokens / known.throughput

    def workload(self, preset: Preset) -> Workload:
        """The sample and the clients."""
        return Workload("own sample", len(self._prompts), self._clients or preset.parallel, max_tokens=self._max_tokens)

    def _count(self, preset: Preset, amount: int) -> int:
        return max(_LEAST_REPLIES, amount * (self._clients or preset.parallel))

    def _read_lengths(self, loaded: LLM) -> None:
        lengths = [loaded.count_tokens(prompt) for prompt in self._prompts]
        self._by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
        needed = max(lengths) + self._max_tokens + _SALT_TOKENS
        preset = loaded.preset
        slot = preset.n_ctx if preset.kv_unified else preset.n_ctx // preset.parallel
        if needed > slot:
            raise PromptTooLongError(
                f"The longest prompt of the sample needs {needed} tokens with its reply, and a conversation of the "
                f"preset {preset.name!r} has {slot}.",
                tokens=needed,
                limit=slot,
                hint="Raise n_ctx, lower parallel or max_tokens, or leave the prompt out.",
            )
        self.tokens = needed


class ImageWork:
    """Images.

    Args:
        images: as :meth:`fastinfer.Classifier.classify` takes them, at least one.
        model: as :func:`fastinfer.classifier` takes it.
        labels: to choose from; None lets the model name what it sees.
        clients: how many ask at once; None measures ``classify_many``.
        budget: seconds of the whole tuning.

    Raises:
        ImageDecodeError: there are no images, or one image and no list.
    """

    tokens = 0

    def __init__(
        self,
        images: Iterable[ImageSource],
        model: str | os.PathLike[str] | None,
        *,
        labels: Iterable[str] | None,
        clients: int | None,
        budget: float,
    ) -> None:
        if isinstance(images, (str, bytes, os.PathLike)):
            raise ImageDecodeError("A list of images is expected as the sample.", hint="Put a single one into a list.")
        self._images = list(images)
        if not self._images:
            raise ImageDecodeError("The sample is empty.", hint="Give at least one image of those that you have.")
        self._model, self._clients = model, clients
        self._labels = None if labels is None else list(labels)
        self._shortest = min(_LONGEST, max(_SHORTEST, _PART * budget))

    def open(self, preset: Preset) -> Classifier:
        """Load the preset's model."""
        return classifier(preset, labels=self._labels, model=self._model)

    def prepare(self, loaded: Classifier) -> None:
        """Some images, which start decoding processes and fill the batches.

        Raises:
            FastInferError: no image of the sample can be classified.
        """
        measure_classify(loaded, self._images, seconds=_SHORTEST)

    def measure(self, loaded: Classifier, amount: int) -> Figures:
        """Images for ``amount`` times the shortest time, over and over."""
        return measure_classify(loaded, self._images, seconds=amount * self._shortest, concurrency=self._clients)

    def seconds(self, preset: Preset, amount: int, known: Figures) -> float:
        """The time that was fixed, and as much again at most for the images that come one at a time."""
        fixed = amount * self._shortest
        return fixed if self._clients else fixed + min(fixed, (known.latency_p50 or 0.0) * known.items)

    def workload(self, preset: Preset) -> Workload:
        """The sample and the labels."""
        labels = None if self._labels is None else len(self._labels)
        return Workload("own sample", len(self._images), self._clients, labels=labels)
