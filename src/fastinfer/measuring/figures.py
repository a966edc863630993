"""The figures of a measurement, and several rounds of them made one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from fastinfer.errors import PresetError
from fastinfer.preset_library.schema import Kind

__all__ = ["Figures", "load_text", "percentile", "spread", "summarise"]

#: Of several rounds not the median: what is added up, and of which the highest counts.
_ADDED: Final = ("errors",)
_HIGHEST: Final = ("memory", "gpu_memory")
#: The same in every round, or nothing that has a middle.
_KEPT: Final = ("kind", "items", "concurrency", "latency_load")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Times are in seconds, memory in bytes.

    Attributes:
        kind: ``"classify"`` or ``"chat"``.
        items: images or conversations that were answered.
        errors: those that failed; they count in nothing else.
        seconds: from the first to the last of them, by the clock.
        throughput: images a second, or generated tokens a second, over ``seconds``.
        concurrency: how many the clients kept in work at once; None for ``classify_many``, which keeps as many as the
            engine takes.
        latency_p50, latency_p95, latency_p99: of an item, from asking to the whole answer; None in receipts of work
            that did not record it.
        latency_load: under which load: ``"one at a time"`` or ``"8 at a time"``, for example.
        tokens: generated, all conversations together; 0 for images.
        prompt_tokens: read, all items together, those taken over from earlier prompts included.
        cached_tokens: of these, taken over.
        ttft_p50, ttft_p95: time to first token, from asking until the first token was generated, the wait for a slot
            included; None for images.
        inter_token_p50, inter_token_p95: between two pieces of the same reply as a client gets them, which are a token
            each unless a character or a mark needs several; None for images and for replies of one piece.
        memory: the most that this process held resident, everything else in it included; None where the system does
            not tell.
        gpu_memory: the most that was in use on the GPU, other programs included; None on a CPU, and where it is not
            to be seen.
    """

    kind: Kind
    items: int
    errors: int
    seconds: float
    throughput: float
    concurrency: int | None
    latency_p50: float | None
    latency_p95: float | None
    latency_p99: float | None
    latency_load: str
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    inter_token_p50: float | None = None
    inter_token_p95: float | None = None
    memory: int | None = None
    gpu_memory: int | None = None

    @property
    def unit(self) -> str:
        """What ``throughput`` counts: ``"images/s"`` or ``"tokens/s"``."""
        return "images/s" if self.kind == "classify" else "tokens/s"

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values that JSON can hold; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Figures:
        """The figures that :meth:`to_dict` wrote.

        Raises:
            PresetError: a figure is missing or unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise PresetError(
                f"Figures cannot be read: {error}.", hint="Give what Figures.to_dict() returned."
            ) from error


def load_text(clients: int) -> str:
    """The load that so many clients are, as ``latency_load`` says it."""
    return f"{clients} at a time" if clients > 1 else "one at a time"


def percentile(values: Sequence[float], share: int) -> float | None:
    """The value that ``share`` percent of the values do not exceed, between neighbours if need be; None of nothing.

    Args:
        values: in any order.
        share: 1 to 99.
    """
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def summarise(rounds: Sequence[Figures]) -> Figures:
    """Rounds of the same measurement as one: medians, all errors, and the most memory.

    Args:
        rounds: at least one.
    """
    return Figures(**{field.name: _middle(field.name, rounds) for field in fields(Figures)})


def spread(rounds: Sequence[Figures]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of each figure that varies over the rounds, by the figure's name.

    Args:
        rounds: at least one.
    """
    found = {}
    for field in fields(Figures):
        values = [value for one in rounds if (value := getattr(one, field.name)) is not None]
        if values and field.name not in _KEPT:
            found[field.name] = (min(values), max(values))
    return found


def _middle(name: str, rounds: Sequence[Figures]) -> Any:
    values = [value for one in rounds if (value := getattr(one, name)) is not None]
    if not values or name in _KEPT:
        return getattr(rounds[0], name)
    if name in _ADDED:
        return sum(values)
    if name in _HIGHEST:
        return max(values)
    middle = statistics.median(values)
    return round(middle) if isinstance(values[0], int) else middle
