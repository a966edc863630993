"""What tuning returns: the best preset, its receipt, and everything that was tried."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from fastinfer.errors import FastInferError, PresetError
from fastinfer.measuring import Figures, Receipt
from fastinfer.preset_library import Preset
from fastinfer.showing import Report, Section, Shown
from fastinfer.tuning.goal import Goal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Point", "Tuned", "Verdict", "named"]

Verdict = Literal["given", "best", "overtaken", "dropped", "failed", "not measured"]


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate.

    Attributes:
        changes: its values that differ from those of the preset that tuning started from; empty for that one.
        preset: itself; None where the values are not legal.
        figures: the medians of its measurements; None where there is none.
        rounds: measurements.
        ratios: how many times better than the best at that time, of each of them but for the preset started from.
        verdict: ``"given"`` for the preset started from; ``"best"``; ``"overtaken"`` for one that was the best for a
            while; ``"dropped"``, ``"failed"`` or ``"not measured"``.
        why: it has that verdict, in words.
    """

    changes: dict[str, Any]
    preset: Preset | None
    figures: Figures | None
    rounds: int
    ratios: tuple[float, ...]
    verdict: Verdict
    why: str

    @property
    def name(self) -> str:
        """The changes as text."""
        return named(self.changes)

    @property
    def throughput(self) -> float:
        """Images or generated tokens a second; 0 where nothing was measured."""
        return 0.0 if self.figures is None else self.figures.throughput

    @property
    def latency(self) -> float:
        """Seconds, 95th percentile: of an image's answer, or between two tokens; 0 where nothing was measured."""
        if self.figures is None:
            return 0.0
        figures = self.figures
        return (figures.latency_p95 if figures.kind == "classify" else figures.inter_token_p95) or 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold; of the preset, its fingerprint."""
        return {
            "changes": self.changes,
            "fingerprint": None if self.preset is None else self.preset.fingerprint,
            "figures": None if self.figures is None else self.figures.to_dict(),
            "rounds": self.rounds,
            "ratios": list(self.ratios),
            "verdict": self.verdict,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Tuned(Shown):
    """What :func:`fastinfer.tune` found. ``str()`` gives text; notebooks and rich consoles show a table and the plot.

    Attributes:
        preset: the best preset, under the given one's name with "-tuned" after it; the given one itself where nothing
            better was found.
        given: the preset that tuning started from.
        goal: what it was tuned for.
        receipt: what the best preset was measured at.
        points: every candidate, in the order in which they were tried; the first is the given preset.
        gain: how many times better the best preset is than the given one, from the ratios of the steps that led to it;
            1 where nothing better was found, None where there is a limit.
        budget: seconds that there were.
        seconds: seconds that it took.
        stopped: why it ended before everything had been tried: ``"budget"``, ``"interrupted"``, or what failed; empty
            where nothing was left.
        note: what else there is to know, the least budget that would have done among it; may be empty.
    """

    preset: Preset
    given: Preset
    goal: Goal
    receipt: Receipt
    points: tuple[Point, ...]
    gain: float | None
    budget: float
    seconds: float
    stopped: str
    note: str

    @property
    def best(self) -> Point:
        """The best preset's point."""
        wanted = self.preset.parameters
        return next(point for point in self.points if point.preset is not None and point.preset.parameters == wanted)

    @property
    def pareto(self) -> tuple[Point, ...]:
        """The points than which none has both more throughput and less latency, by falling throughput.

        Latency is the 95th percentile of the time between tokens for chat, and of an image's answer for classification.
        """
        front: list[Point] = []
        for point in sorted(self._measured, key=lambda point: (-point.throughput, point.latency)):
            if not front or point.latency < front[-1].latency:
                front.append(point)
        return tuple(front)

    @property
    def _measured(self) -> list[Point]:
        return [point for point in self.points if point.figures is not None]

    def dominating(self, point: Point) -> tuple[Point, ...]:
        """The points with both more throughput and less latency than this one, which was measured."""
        return tuple(p for p in self._measured if p.throughput > point.throughput and p.latency < point.latency)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Throughput against latency, a dot a candidate, those that none beats in both joined by a line.

        Args:
            path: a file to write it to, as a PNG image.

        Raises:
            FastInferError: matplotlib is not installed, or the file cannot be written.
        """
        from fastinfer.tuning.plot import draw, save

        figure = draw(self)
        if path is not None:
            save(figure, path)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold; :meth:`from_dict` reads it back."""
        return {
            "preset": self.preset.to_dict(),
            "given": self.given.to_dict(),
            "goal": asdict(self.goal),
            "receipt": self.receipt.to_dict(),
            "points": [point.to_dict() for point in self.points],
            "pareto": [point.changes for point in self.pareto],
            "gain": self.gain,
            "budget": self.budget,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tuned:
        """What :meth:`to_dict` wrote, to be shown or plotted again.

        Raises:
            PresetError: a key is missing, or a value is not legal.
        """
        try:
            given = Preset.from_dict(data["given"])
            return cls(
                preset=Preset.from_dict(data["preset"]),
                given=given,
                goal=Goal(**data["goal"]),
                receipt=Receipt.from_dict(data["receipt"]),
                points=tuple(_point(given, entry) for entry in data["points"]),
                **{name: data[name] for name in ("gain", "budget", "seconds", "stopped", "note")},
            )
        except (KeyError, TypeError) as error:
            raise PresetError(
                f"A tuning cannot be read: {error!r}.", hint="Give what Tuned.to_dict() returned."
            ) from error

    def _picture(self) -> str:
        return base64.b64encode(self._repr_png_() or b"").decode("ascii")

    def _repr_png_(self) -> bytes | None:
        from fastinfer.tuning.plot import draw, png

        try:
            return png(draw(self))
        except FastInferError:
            return None  # without matplotlib a notebook shows the table alone

    def _report(self) -> Report:
        changed = self.best.name if self.best.changes else "the given preset; nothing better was found"
        said = [f"Aim: {self.goal.sentence}. Best: {changed}."]
        if self.gain is not None and self.best.changes:
            said.append(
                f"It is {self.gain:.2f} times as good as the given preset, by the paired rounds that led to it."
            )
        said += [*_standing(self), f"{_counted(self.points)} in {self.seconds:.0f} s{_ended(self.stopped)}"]
        if self.note:
            said.append(self.note)
        receipt = self.receipt
        where = receipt.environment
        machine = ", ".join(where.gpus) or f"{where.cpu}, {where.cores} cores"
        return Report(
            title=f"{self.given.name} ({self.given.kind}), tuned with {receipt.model} on {machine}",
            before=said,
            headings=_headings(self.given.kind),
            rows=[_row(point, self) for point in self.points],
            sections=[
                Section("Receipt", [f"{receipt.engine}, {receipt.device}; {where.when}; {receipt.command}"]),
            ],
        )


def _point(given: Preset, entry: Mapping[str, Any]) -> Point:
    legal = entry["fingerprint"] is not None
    return Point(
        changes=entry["changes"],
        preset=given.replace(**entry["changes"]) if legal else None,
        figures=None if entry["figures"] is None else Figures.from_dict(entry["figures"]),
        rounds=entry["rounds"],
        ratios=tuple(entry["ratios"]),
        verdict=entry["verdict"],
        why=entry["why"],
    )


def named(changes: Mapping[str, Any]) -> str:
    """Changes as text."""
    return ", ".join(f"{name}={value}" for name, value in changes.items()) or "as given"


def _standing(tuned: Tuned) -> list[str]:
    """How the given preset did among all that were measured."""
    given = tuned.points[0]
    measured = [point.throughput for point in tuned.points if point.figures is not None]
    if len(measured) < 2:
        return []
    above = sum(throughput > given.throughput for throughput in measured)
    said = f"The values as given come {_ordinal(above + 1)} of {len(measured)} in throughput"
    better = tuned.dominating(given)
    if better:
        nearest = min(better, key=lambda point: len(point.changes))
        said += f"; {len(better)} of the others have more of it at a lower latency, {nearest.name} for example"
    else:
        said += "; none of the others has more of it at a lower latency"
    return [said + "."]


def _counted(points: Sequence[Point]) -> str:
    tried = sum(point.figures is not None for point in points)
    failed = sum(point.verdict == "failed" for point in points)
    left = sum(point.verdict == "not measured" for point in points)
    said = f"{tried} measured"
    if failed:
        said += f", {failed} failed"
    return said + (f", {left} left out" if left else "")


def _ended(stopped: str) -> str:
    if not stopped:
        return "; nothing was left to try."
    return {"budget": "; the budget ended it.", "interrupted": "; it was interrupted."}.get(stopped, f"; {stopped}")


def _headings(kind: str) -> list[str]:
    if kind == "classify":
        return ["Candidate", "Images/s", "Latency p95", "Memory", "Rounds", "Verdict", "Why"]
    return ["Candidate", "Tokens/s", "First token p95", "Between tokens p95", "Memory", "Rounds", "Verdict", "Why"]


def _row(point: Point, tuned: Tuned) -> list[str]:
    figures = point.figures
    if figures is None:
        times = [""] * (len(_headings(tuned.given.kind)) - 4)
    else:
        latencies = [figures.latency_p95] if figures.kind == "classify" else [figures.ttft_p95, figures.inter_token_p95]
        memory = figures.gpu_memory or figures.memory
        times = [f"{figures.throughput:.1f}", *map(_milliseconds, latencies), _mebibytes(memory)]
    return [point.name, *times, str(point.rounds), point.verdict, point.why]


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f} ms"


def _mebibytes(memory: int | None) -> str:
    return "" if memory is None else f"{memory / 2**20:.0f} MiB"


def _ordinal(number: int) -> str:
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
