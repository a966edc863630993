"""What tuning is for: one figure, or throughput with that figure held to a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fastinfer.errors import PresetError
from fastinfer.measuring import Figures
from fastinfer.preset_library import Kind

__all__ = ["AIMS", "Aim", "Goal"]

Aim = Literal["throughput", "first-token-latency", "inter-token-latency", "memory"]
AIMS: Final[tuple[Aim, ...]] = get_args(Aim)

#: The figure of each aim. An image's answer is its first token, so for images that is the latency.
_FIGURES: Final[Mapping[Kind, Mapping[Aim, str]]] = {
    "classify": {"throughput": "throughput", "first-token-latency": "latency_p95", "memory": "memory"},
    "chat": {
        "throughput": "throughput",
        "first-token-latency": "ttft_p95",
        "inter-token-latency": "inter_token_p95",
        "memory": "memory",
    },
}

#: Less throughput than anybody has, in items a second: puts all that stays within a limit above all that does not.
_LEAST: Final = 1e-6
#: Ratios beyond this are such steps over the limit.
_APART: Final = 1e3


@dataclass(frozen=True, slots=True)
class Goal:
    """An aim, and perhaps its limit.

    Attributes:
        kind: of the preset.
        aim: the figure that is to become better: throughput higher, the others lower.
        limit: the most that the aim's figure may be, in seconds or bytes; then throughput is to become higher, and the
            figure only to stay within the limit. None without one.
    """

    kind: Kind
    aim: Aim
    limit: float | None = None

    def check(self) -> None:
        """Refuse what cannot be aimed at.

        Raises:
            PresetError: there is no such aim, not for this kind, or the limit makes no sense.
        """
        possible = _FIGURES[self.kind]
        if self.aim not in possible:
            raise PresetError(
                f"There is no aim {self.aim!r} for a preset of kind {self.kind!r}.",
                hint=f"Aims are {', '.join(possible)}.",
            )
        if self.limit is None:
            return
        if self.aim == "throughput":
            raise PresetError(
                "Throughput has no limit.",
                hint="Name the figure that is to stay within the limit as the aim, inter-token-latency for example: "
                "throughput is then raised as far as the limit allows.",
            )
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise PresetError(
                f"The limit {self.limit} is not legal.",
                hint="Give seconds, or bytes for the aim memory: a number above 0.",
            )

    @property
    def figure(self) -> str:
        """The name of the aim's figure in :class:`fastinfer.measuring.Figures`."""
        return _FIGURES[self.kind][self.aim]

    @property
    def sentence(self) -> str:
        """The goal in words."""
        if self.aim == "throughput":
            return "the highest throughput"
        if self.limit is None:
            return "the least memory" if self.aim == "memory" else f"the lowest {self.aim} ({self.figure})"
        most = f"{self.limit / 2**20:.0f} MiB" if self.aim == "memory" else f"{self.limit:g} s ({self.figure})"
        return f"the highest throughput with {self.aim} of at most {most}"

    def value(self, figures: Figures) -> float:
        """The aim's figure; the GPU's memory where that is seen, else the process's."""
        if self.aim == "memory":
            return float(figures.gpu_memory or figures.memory or 0)
        return float(getattr(figures, self.figure) or 0.0)

    def allows(self, figures: Figures) -> bool:
        """Whether the figures stay within the limit, if there is one."""
        return self.limit is None or self.value(figures) <= self.limit

    def ratio(self, before: Figures, after: Figures) -> float:
        """How many times better ``after`` is; below 1 it is worse.

        With a limit, what stays within it is better than what does not, by a large factor. Of two within it the one
        with more throughput is better, of two outside the one that is nearer.
        """
        if self.limit is not None:
            return self._merit(after, self.limit) / self._merit(before, self.limit)
        if self.aim == "throughput":
            return _quotient(after.throughput, before.throughput)
        return _quotient(self.value(before), self.value(after))

    def describe(self, ratio: float) -> str:
        """A ratio in words, to be followed by what it is to."""
        if ratio > _APART:
            return "within the limit, unlike"
        if ratio < 1 / _APART:
            return "outside the limit, unlike"
        return f"{ratio:.3f} times"

    def _merit(self, figures: Figures, limit: float) -> float:
        value = self.value(figures)
        if value <= limit:
            return max(figures.throughput, _LEAST) / _LEAST
        return _LEAST * limit / value


def _quotient(above: float, below: float) -> float:
    # A figure that was not seen is 0, and says nothing either way.
    return above / below if above > 0 and below > 0 else 1.0
