"""The walk over the ladders: successive halving in each, paired against the best so far, inside a budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from fastinfer.errors import FastInferError
from fastinfer.measuring import Figures, Paired, alternate, judge, summarise
from fastinfer.preset_library import Preset
from fastinfer.tuning.candidates import candidates
from fastinfer.tuning.goal import Goal
from fastinfer.tuning.ladders import Ladder
from fastinfer.tuning.results import Point, Verdict, named
from fastinfer.tuning.workbench import Workbench

__all__ = ["Search"]

#: A candidate this far behind after the smallest share of the work is not given a larger one.
_HOPELESS: Final = 0.9
#: Rounds that decide between the best so far and the best of a ladder; more than the first number while undecided.
_LEAST_ROUNDS: Final = 2
_MOST_ROUNDS: Final = 4
#: The largest share of the work, as a multiple of the smallest.
_MOST_WORK: Final = 4


@dataclass(slots=True)
class _Trial:
    """What is known of a preset."""

    changes: dict[str, Any]
    preset: Preset
    measured: list[Figures] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    verdict: Verdict = "not measured"
    why: str = ""

    def judged(self, verdict: Verdict, why: str) -> None:
        self.verdict, self.why = verdict, why

    def point(self) -> Point:
        return Point(
            changes=self.changes,
            preset=self.preset,
            figures=summarise(self.measured) if self.measured else None,
            rounds=len(self.measured),
            ratios=tuple(self.ratios),
            verdict=self.verdict,
            why=self.why,
        )


class Search:
    """One search from one preset.

    Args:
        bench: measures.
        start: the preset to start from.
        goal: what is better.
        ladders: to be walked, in order, and again for as long as that changes something.
        budget: seconds from now; a measurement that would not be over by then is not begun.
        report: is told what is being measured.
        clock: seconds, as the bench has them.

    Attributes:
        best: the best preset so far; never one that was not confirmed.
        gain: how many times better it is, by the ratios of the steps that led to it; None where a limit decides.
        out_of_time: something was left out.
    """

    def __init__(
        self,
        bench: Workbench,
        start: Preset,
        goal: Goal,
        ladders: Sequence[Ladder],
        *,
        budget: float,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._bench, self._start, self._goal, self._ladders = bench, start, goal, ladders
        self._clock, self._end = clock, clock() + budget
        self._report = report
        self._trials: dict[str, _Trial] = {}
        self._refused: list[Point] = []
        self.best = start
        self.gain: float | None = 1.0 if goal.limit is None else None
        self.out_of_time = False

    def begin(self) -> None:
        """Measure the given preset; however small the budget is.

        Raises:
            FastInferError: it cannot be loaded, or does none of the work.
        """
        self._trials[self._start.fingerprint] = _Trial({}, self._start, verdict="given")
        self._measure(self._start, 1)

    def walk(self) -> None:
        """Walk the ladders until nothing gets better, or the time is over."""
        improved = True
        while improved and not self.out_of_time:
            improved = False
            for ladder in self._ladders:
                if self._climb(ladder):
                    improved = True

    def least_budget(self) -> float:
        """Seconds that a candidate takes with the given preset: about the least budget that can lead to anything."""
        known = self._figures(self._start)
        loads = (2 if self._bench.holds_two else 1 + _LEAST_ROUNDS) * self._bench.load_seconds
        return loads + (1 + 2 * _LEAST_ROUNDS) * self._bench.work.seconds(self._start, 1, known)

    def measured(self, preset: Preset) -> list[Figures]:
        """Every measurement of a preset, those with the most work."""
        measured = self._trials[preset.fingerprint].measured
        most = max(one.items for one in measured)
        return [one for one in measured if 2 * one.items > most]

    def points(self) -> tuple[Point, ...]:
        """Every candidate, in the order in which they were tried."""
        return (*(trial.point() for trial in self._trials.values()), *self._refused)

    def _climb(self, ladder: Ladder) -> bool:
        """Walk one ladder; whether a better preset was found."""
        alive = self._new_trials(ladder)
        # Evenly spread, so that little time shows the whole ladder and not its beginning.
        alive = [alive[place] for place in _spread(len(alive))]
        amount = 1
        while len(alive) > 1:
            measured = self._compare(alive, amount)
            ranked = sorted((t for t in measured if t.verdict != "failed"), key=lambda t: t.ratios[-1], reverse=True)
            kept = [t for t in ranked[: math.ceil(len(alive) / 2)] if t.ratios[-1] > _HOPELESS]
            for place, trial in enumerate(ranked, 1):
                if trial not in kept:
                    said = self._goal.describe(trial.ratios[-1])
                    trial.judged("dropped", f"{said} the best so far, {place} of {len(measured)}")
            if amount > 1 and len(measured) < 2:
                break  # no time for a second look: one of them is decided on as they are ranked
            for trial in alive:
                if trial not in measured:
                    trial.judged("dropped" if trial.measured else "not measured", "there was no time left for it")
            alive = kept
            amount = min(_MOST_WORK, 2 * amount)
        return self._decide(alive, max(1, amount // 2))

    def _new_trials(self, ladder: Ladder) -> list[_Trial]:
        made = []
        for candidate in candidates(self._start, self.best, ladder, self._bench.work.tokens):
            if candidate.preset is None:
                refused = Point(candidate.changes, None, None, 0, (), "failed", candidate.fault)
                if refused not in self._refused:
                    self._refused.append(refused)
            elif candidate.preset.fingerprint not in self._trials:
                trial = self._trials[candidate.preset.fingerprint] = _Trial(candidate.changes, candidate.preset)
                made.append(trial)
        return made

    def _compare(self, alive: Sequence[_Trial], amount: int) -> list[_Trial]:
        """Measure candidates and, between every two of them, the best so far, so that each has it beside itself.

        Args:
            alive: in the order in which they are measured; those are left out that leave no time to decide on one.
            amount: of work; more than 1 is a second look at the same ladder, which leaves half of the time to others.

        Returns:
            Those that were measured, or failed.
        """
        end = self._end if amount == 1 else self._clock() + self._left() / 2
        measured: list[_Trial] = []
        several: list[_Trial] = []
        for trial in alive:
            if self._clock() + self._comparing_seconds([*several, trial], measured, amount) < end:
                several.append(trial)
            elif amount == 1:
                self.out_of_time = True  # of this one; others may take less
            else:
                break  # what comes after it was worse
            if len(several) == 2:
                self._measure_around_the_best(several, amount)
                measured += several
                several = []
        if several:
            self._measure_around_the_best(several, amount)
        return measured + several

    def _measure_around_the_best(self, several: Sequence[_Trial], amount: int) -> None:
        """Measure one or two candidates, the best so far after the first."""
        first, *second = several
        after = self._try(first, amount)
        before = self._measure(self.best, amount)
        for trial, figures in ((first, after), *((trial, self._try(trial, amount)) for trial in second)):
            if figures is not None:
                trial.ratios.append(self._goal.ratio(before, figures))

    def _decide(self, ranked: Sequence[_Trial], amount: int) -> bool:
        """Measure a candidate and the best so far in turns; the candidate takes its place where it is better.

        Args:
            ranked: the first for which there is time is decided on.
            amount: of work, or less where there is no time for as much.
        """
        chosen = None
        for trial in ranked:
            if chosen is None and self._deciding_seconds(trial, 1) <= self._left():
                chosen = trial
                continue
            self.out_of_time = True
            trial.judged("dropped" if trial.measured else "not measured", "there was no time left to decide on it")
        if chosen is None:
            return False
        while amount > 1 and self._deciding_seconds(chosen, amount) > self._left():
            amount //= 2
        paired = self._alternate(chosen.preset, amount)
        if isinstance(paired, FastInferError):
            chosen.judged("failed", str(paired))
            return False
        chosen.ratios += paired.ratios
        return self._settle(chosen, paired)

    def _alternate(self, preset: Preset, amount: int) -> Paired | FastInferError:
        """Rounds of a preset and the best so far, until it is clear which is better or there is no time for more."""
        ratios: list[float] = []
        while True:
            started = self._clock()
            try:
                pairs = alternate(
                    lambda: self._measure(self.best, amount), lambda: self._measure(preset, amount), _LEAST_ROUNDS
                )
            except FastInferError as error:
                return error
            ratios += [self._goal.ratio(before, after) for before, after in pairs]
            paired = judge(ratios)
            # Only what looks better is worth more rounds.
            if paired.verdict != "undecided" or paired.median <= 1 or len(ratios) >= _MOST_ROUNDS:
                return paired
            if self._clock() - started > self._left():
                return paired

    def _settle(self, trial: _Trial, paired: Paired) -> bool:
        said = (
            f"{self._goal.describe(paired.median)} the best before it in {len(paired.ratios)} rounds, "
            f"ratios {min(paired.ratios):.3f} to {max(paired.ratios):.3f}"
        )
        if paired.verdict != "better":
            trial.judged("dropped", said)
            return False
        self._trials[self.best.fingerprint].judged(
            "given" if self.best is self._start else "overtaken", f"better: {named(trial.changes)}"
        )
        self.best = trial.preset
        if self.gain is not None:
            self.gain *= paired.median
        trial.judged("best", said)
        return True

    def _try(self, trial: _Trial, amount: int) -> Figures | None:
        try:
            return self._measure(trial.preset, amount)
        except FastInferError as error:
            trial.judged("failed", str(error))
            return None

    def _measure(self, preset: Preset, amount: int) -> Figures:
        trial = self._trials[preset.fingerprint]
        self._report(named(trial.changes))
        figures = self._bench.measure(preset, amount)
        trial.measured.append(figures)
        return figures

    def _figures(self, preset: Preset) -> Figures:
        return summarise(self._trials[preset.fingerprint].measured)

    def _left(self) -> float:
        """Seconds of the budget that are left."""
        return self._end - self._clock()

    def _comparing_seconds(self, several: Sequence[_Trial], measured: Sequence[_Trial], amount: int) -> float:
        """About how long it takes to measure ``several`` around the best so far, and to decide on any that may win."""
        known = self._figures(self.best)
        work = self._bench.work.seconds(self.best, amount, known)
        work += 0.0 if self._bench.holds_two else self._bench.load_seconds
        work += sum(self._bench.seconds(trial.preset, amount, known) for trial in several)
        promising = [trial for trial in measured if trial.ratios and trial.ratios[-1] > 1]
        return work + max(self._deciding_seconds(trial, 1) for trial in (*several, *promising))

    def _deciding_seconds(self, trial: _Trial, amount: int) -> float:
        """About how long the rounds take that decide on a candidate."""
        known = trial.measured[-1] if trial.measured else self._figures(self.best)
        work = self._bench.work.seconds(trial.preset, amount, known)
        # Alone, every round ends with one engine and the next begins with it: one load a round.
        loads = self._bench.load_seconds * (1 if self._bench.holds_two else 1 + _LEAST_ROUNDS)
        return loads + _LEAST_ROUNDS * (work + self._bench.work.seconds(self.best, amount, self._figures(self.best)))


def _spread(size: int) -> list[int]:
    """Every place of so many, so that each beginning of the order is spread over all: last, first, middle and so on."""
    order = [size - 1, 0] if size > 1 else list(range(size))
    while len(order) < size:
        seen = sorted(order)
        gap, left = max((b - a, a) for a, b in pairwise(seen))
        order.append(left + gap // 2)
    return order
