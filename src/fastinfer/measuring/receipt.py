"""A receipt: what a preset was measured at, how, and where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fastinfer.errors import PresetError
from fastinfer.measuring.chat import measure_chat
from fastinfer.measuring.classify import measure_classify
from fastinfer.measuring.environment import Environment
from fastinfer.measuring.figures import Figures, spread, summarise
from fastinfer.preset_library import Kind, Preset, as_preset

if TYPE_CHECKING:
    from fastinfer.provenance import Provenance

__all__ = ["Receipt", "Workload", "measure_preset", "take_receipt"]


@dataclass(frozen=True, slots=True)
class Workload:
    """What was done.

    Attributes:
        name: a name that says whether two receipts can be compared, ``"prompts of 512 tokens"`` for example.
        items: images or prompts in a round.
        concurrency: clients; None for what fills the engine: ``classify_many``, or a client for each slot.
        max_tokens: of a reply; None for images.
        labels: to choose from; None without, and for chat.
    """

    name: str
    items: int
    concurrency: int | None = None
    max_tokens: int | None = None
    labels: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a preset was measured at.

    Attributes:
        preset: its name.
        kind: ``"classify"`` or ``"chat"``.
        fingerprint: of its parameters; the same in a preset whose values are the same.
        parameters: every value of the preset that was measured.
        model: the model as it was resolved.
        engine: engine and version.
        device: what it computed on.
        workload: what was done.
        rounds: how often.
        figures: the medians of the rounds.
        spread: the lowest and the highest round of each figure, by the figure's name.
        environment: where and when.
        command: what made the receipt.
    """

    preset: str
    kind: Kind
    fingerprint: str
    parameters: dict[str, Any]
    model: str
    engine: str
    device: str
    workload: Workload
    rounds: int
    figures: Figures
    environment: Environment
    command: str
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, preset: Preset, ran: Provenance, workload: Workload, measured: Sequence[Figures], *, command: str
    ) -> Receipt:
        """The receipt for rounds that have just been measured here.

        Args:
            preset: what was measured.
            ran: of the classifier or model that did the work.
            workload: the work of a round.
            measured: the rounds, at least one.
            command: what made the receipt.
        """
        return cls(
            preset=preset.name,
            kind=preset.kind,
            fingerprint=preset.fingerprint,
            parameters=preset.parameters.model_dump(),
            model=ran.model,
            engine=ran.engine,
            device=ran.device,
            workload=workload,
            rounds=len(measured),
            figures=summarise(measured),
            environment=Environment.here(),
            command=command,
            spread=spread(measured),
        )

    def to_dict(self) -> dict[str, Any]:
        """The receipt as plain values that JSON can hold; :meth:`from_dict` reads it back."""
        return {
            **asdict(self),
            "environment": self.environment.to_dict(),
            "spread": {name: list(ends) for name, ends in self.spread.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Receipt:
        """The receipt that :meth:`to_dict` wrote.

        Raises:
            PresetError: a key is missing or unknown.
        """
        try:
            read = {
                "workload": Workload(**data["workload"]),
                "figures": Figures.from_dict(data["figures"]),
                "environment": Environment.from_dict(data["environment"]),
                "spread": {name: (low, high) for name, (low, high) in data["spread"].items()},
            }
            return cls(**{**data, **read})
        except (KeyError, TypeError, ValueError) as error:
            raise PresetError(
                f"A receipt cannot be read: {error}.", hint="Give what Receipt.to_dict() returned."
            ) from error


def take_receipt(
    preset: str | Preset,
    *,
    kind: Kind | None = None,
    model: str | os.PathLike[str] | None = None,
    sample: Iterable[Any],
    labels: Iterable[str] | None = None,
    name: str = "own sample",
    max_tokens: int = 128,
    concurrency: int | None = None,
    rounds: int = 3,
    command: str = "fastinfer.measuring.take_receipt",
) -> Receipt:
    """Load a preset's model, measure it, and close it.

    Args:
        preset: a preset or its name.
        kind: ``"classify"`` or ``"chat"``; where both kinds have the name.
        model: as :func:`fastinfer.classifier` or :func:`fastinfer.llm` takes it.
        sample: images or prompts; all of them are one round. A round that nobody counts comes first.
        labels: for images; None lets the model name what it sees.
        name: of the workload.
        max_tokens: of a reply.
        concurrency: clients; None fills the engine.
        rounds: how often the sample is gone through, 1 and up.
        command: what is to stand in the receipt.

    Raises:
        PresetError, ModelNotFoundError and the other errors of :func:`fastinfer.classifier` and :func:`fastinfer.llm`.
        FastInferError: every item of the sample failed; the first one's error.
    """
    chosen = as_preset(preset, kind)
    items = list(sample)
    chosen_labels = None if labels is None else list(labels)
    chats = chosen.kind == "chat"
    workload = Workload(
        name,
        len(items),
        concurrency,
        max_tokens=max_tokens if chats else None,
        labels=None if chats or chosen_labels is None else len(chosen_labels),
    )

    def all_rounds(one: Callable[[], Figures]) -> list[Figures]:
        return [one() for _ in range(rounds + 1)][1:]

    return measure_preset(
        chosen, workload, lambda _: items, model=model, labels=chosen_labels, rounds=all_rounds, command=command
    )


def measure_preset(
    preset: Preset,
    workload: Workload,
    items: Callable[[Any], Sequence[Any]],
    *,
    model: str | os.PathLike[str] | None,
    labels: Sequence[str] | None,
    rounds: Callable[[Callable[[], Figures]], list[Figures]],
    command: str,
) -> Receipt:
    """Load a preset's model, do some work in rounds, and close it.

    Args:
        preset: what to measure.
        workload: what the receipt says of the work; how many ask at once and how long replies are is taken from it.
        items: the images or prompts of a round, given the classifier or the model.
        model: as :func:`fastinfer.classifier` or :func:`fastinfer.llm` takes it.
        labels: for images.
        rounds: does rounds by calling what it is given, and returns those that count, one at least.
        command: what is to stand in the receipt.

    Raises:
        FastInferError: as :func:`fastinfer.classifier` and :func:`fastinfer.llm`; or every item failed.
    """
    # Imported here so that a receipt can be read without them.
    if preset.kind == "chat":
        from fastinfer.chat.opening import llm

        tokens = workload.max_tokens or 128
        with llm(preset, model=model) as loaded:
            work = items(loaded)
            measured = rounds(lambda: measure_chat(loaded, work, max_tokens=tokens, concurrency=workload.concurrency))
            return Receipt.of(preset, loaded.provenance, workload, measured, command=command)

    from fastinfer.classify.opening import classifier

    with classifier(preset, labels=labels, model=model) as opened:
        images = items(opened)
        measured = rounds(lambda: measure_classify(opened, images, concurrency=workload.concurrency))
        return Receipt.of(preset, opened.provenance, workload, measured, command=command)
