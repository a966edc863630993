"""The search on speeds that a formula gives, with noise and drift: what it finds, what it spends, what it survives."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import EngineError, EngineOutOfMemoryError
from fastinfer.measuring import Figures, Workload
from fastinfer.provenance import Provenance
from fastinfer.tuning import Goal, Ladder
from fastinfer.tuning.search import Search
from fastinfer.tuning.workbench import Workbench

START = fastinfer.preset("balanced")
#: Tokens a second by slots, as one H200 has them: 8 is where another kernel would do better.
SLOTS = {1: 62, 2: 117, 4: 165, 6: 190, 8: 224, 9: 292, 12: 378, 16: 485, 24: 620, 32: 740}
PARALLEL = Ladder("chat", "llama.cpp", ("throughput",), ("parallel",), (4, 6, 8, 9, 12, 16, 24, 32), "more at once")
PIECES = Ladder("chat", "llama.cpp", ("throughput",), ("n_ubatch",), (512, 1024, 2048), "larger pieces")


class Loaded:
    """What a preset becomes when it is opened."""

    def __init__(self, preset: fastinfer.Preset) -> None:
        self.preset = preset
        self.provenance = Provenance("formula", "none", preset.name, preset.fingerprint, "CPU", "none")
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Formula:
    """Work whose speed a formula gives; noise and drift are those of a machine that others use too."""

    tokens = 640

    def __init__(
        self,
        speed: Callable[[fastinfer.Preset], float],
        *,
        noise: float = 0.0,
        drift: float = 1.0,
        seconds: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._speed, self._noise, self._drift, self._seconds = speed, noise, drift, seconds
        self._chance = random.Random(seed)
        self.opened: list[Loaded] = []
        self.amounts: list[tuple[str, int]] = []
        self._machine = 1.0
        self.now = 0.0

    def open(self, preset: fastinfer.Preset) -> Loaded:
        self.now += self._seconds
        self.opened.append(Loaded(preset))
        return self.opened[-1]

    def prepare(self, engine: Loaded) -> None:
        """It has nothing to do."""

    def measure(self, engine: Loaded, amount: int) -> Figures:
        assert not engine.closed
        self.amounts.append((engine.preset.fingerprint, amount))
        self.now += self._seconds * amount
        self._machine *= self._drift
        speed = self._speed(engine.preset) * self._machine * self._chance.gauss(1, self._noise / amount**0.5)
        slots = engine.preset.parallel
        return Figures(
            "chat", amount * slots, 0, 1.0, speed, slots, 1.0, 1.0, 1.0, "", inter_token_p95=slots / speed, memory=100
        )

    def seconds(self, preset: fastinfer.Preset, amount: int, known: Figures) -> float:
        return self._seconds * amount

    def workload(self, preset: fastinfer.Preset) -> Workload:
        return Workload("formula", 1)


def by_slots(preset: fastinfer.Preset) -> float:
    return SLOTS[preset.parallel] * (1 - 0.02 * (preset.n_ubatch < 2048))


def search(
    work: Formula, *, budget: float = 60.0, ladders: Any = (PARALLEL, PIECES), goal: Any = None, alone: bool = False
) -> Search:
    goal = goal or Goal("chat", "throughput")
    with Workbench(work, alone=alone, clock=lambda: work.now) as bench:
        found = Search(bench, START, goal, ladders, budget=budget, report=lambda _: None, clock=lambda: work.now)
        found.begin()
        found.walk()
    assert all(engine.closed for engine in work.opened)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_best_through_noise_and_on_a_machine_that_gets_slower(seed: int) -> None:
    work = Formula(by_slots, noise=0.03, drift=0.985, seed=seed)
    found = search(work)
    assert found.best.parallel == 32
    assert found.gain == pytest.approx(740 / 224, rel=0.15)


def test_the_given_preset_is_shown_beside_what_beats_it() -> None:
    points = search(Formula(by_slots)).points()
    assert points[0].verdict == "given"
    assert points[0].changes == {}
    verdicts = {str(point.changes): point.verdict for point in points}
    assert verdicts["{'parallel': 32}"] == "best"
    assert verdicts["{'parallel': 4}"] == verdicts["{'parallel': 6}"] == "dropped"


def test_where_nothing_is_better_the_given_preset_stays() -> None:
    for seed in range(5):
        found = search(Formula(lambda preset: 100.0, noise=0.02, seed=seed))
        assert found.best is START
        assert found.gain == 1


def test_the_better_half_gets_more_work() -> None:
    work = Formula(by_slots)
    search(work, ladders=[PARALLEL])
    largest: dict[str, int] = {}
    for fingerprint, amount in work.amounts:
        largest[fingerprint] = max(amount, largest.get(fingerprint, 0))
    by_name = {slots: largest[START.replace(parallel=slots).fingerprint] for slots in (4, 6, 9, 16, 24, 32)}
    assert by_name[4] == by_name[6] == by_name[9] == 1
    assert by_name[24] >= by_name[16] > 1
    assert by_name[32] == max(by_name.values()) > 2


def test_every_candidate_has_the_best_so_far_beside_it() -> None:
    work = Formula(by_slots)
    search(work, ladders=[PARALLEL])
    order = [fingerprint for fingerprint, _ in work.amounts]
    for before, now, after in zip(order, order[1:], [*order[2:], START.fingerprint], strict=False):
        assert START.fingerprint in (before, now, after)


def test_a_later_ladder_starts_from_what_an_earlier_one_found_and_the_first_is_walked_again() -> None:
    def speed(preset: fastinfer.Preset) -> float:
        # With small pieces few slots are better than many, and small pieces are better with many.
        return {(2048, 16): 120, (512, 16): 150, (512, 9): 180}.get((preset.n_ubatch, preset.parallel), 100.0)

    ladders = [
        Ladder("chat", "llama.cpp", ("throughput",), ("parallel",), (9, 16), "why"),
        Ladder("chat", "llama.cpp", ("throughput",), ("n_ubatch",), (512,), "why"),
    ]
    best = search(Formula(speed), ladders=ladders).best
    assert (best.n_ubatch, best.parallel) == (512, 9)


class Priced(Formula):
    """Loading takes seconds, and work as long as its tokens do, 128 in a reply: a large model on a GPU."""

    def open(self, preset: fastinfer.Preset) -> Loaded:
        self.now += 7.5
        return super().open(preset)

    def measure(self, engine: Loaded, amount: int) -> Figures:
        figures = super().measure(engine, amount)
        self.now += self.seconds(engine.preset, amount, figures)
        return figures

    def seconds(self, preset: fastinfer.Preset, amount: int, known: Figures) -> float:
        return max(4, amount * preset.parallel) * 128 / known.throughput


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("budget", [180, 240, 300, 480])
def test_where_the_best_is_the_dearest_to_measure_the_time_is_kept_for_it(budget: float, seed: int) -> None:
    speeds = {4: 131, 6: 150, 8: 157, 9: 195, 12: 220, 16: 240, 24: 255, 32: 262}
    work = Priced(lambda preset: speeds[preset.parallel], noise=0.02, seed=seed)
    found = search(work, budget=budget, ladders=[PARALLEL])
    assert work.now < 1.1 * budget
    assert speeds[found.best.parallel] >= 0.9 * 262


@pytest.mark.parametrize("error", [EngineOutOfMemoryError("no room"), EngineError("broken")])
def test_a_candidate_that_fails_is_noted_and_the_search_goes_on(error: Exception) -> None:
    class Full(Formula):
        def open(self, preset: fastinfer.Preset) -> Loaded:
            if preset.parallel > 16:
                raise error
            return super().open(preset)

    found = search(Full(by_slots))
    assert found.best.parallel == 16
    failed = [point for point in found.points() if point.verdict == "failed"]
    assert {point.changes["parallel"] for point in failed} >= {24, 32}
    assert all(str(error) in point.why for point in failed)


def test_one_that_fails_only_beside_another_gets_the_memory_for_itself() -> None:
    class Tight(Formula):
        def open(self, preset: fastinfer.Preset) -> Loaded:
            if preset.parallel == 32 and any(not engine.closed for engine in self.opened):
                raise EngineOutOfMemoryError("no room beside another")
            return super().open(preset)

    assert search(Tight(by_slots)).best.parallel == 32


@pytest.mark.parametrize("alone", [True, False])
def test_a_few_engines_are_open_at_most_and_one_where_memory_counts(alone: bool) -> None:
    class Watched(Formula):
        most = 0

        def open(self, preset: fastinfer.Preset) -> Loaded:
            loaded = super().open(preset)
            self.most = max(self.most, sum(not engine.closed for engine in self.opened))
            return loaded

    work = Watched(by_slots)
    search(work, alone=alone)
    assert work.most == 1 if alone else 2 <= work.most <= 4


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("budget", [2, 5, 10, 15, 25])
def test_the_budget_is_kept_and_what_was_left_out_is_said(budget: float, alone: bool) -> None:
    work = Formula(by_slots, seconds=1.0)
    found = search(work, budget=budget, alone=alone)
    assert work.now <= budget
    assert found.out_of_time
    left = [point for point in found.points() if point.verdict == "not measured"]
    assert left
    assert all("no time" in point.why for point in left)
    assert 5 <= found.least_budget() <= 10


def test_with_little_time_the_values_tried_are_spread_over_the_ladder() -> None:
    found = search(Formula(by_slots, seconds=1.0), budget=16, ladders=[PARALLEL])
    tried = [point.changes["parallel"] for point in found.points()[1:] if point.figures]
    assert 2 <= len(tried) < 7
    assert max(tried) == 32


def test_a_limit_is_kept_and_throughput_raised_as_far_as_it_allows() -> None:
    # Between tokens: slots / speed, 36 ms for 8 slots and 33 ms for 16.
    found = search(Formula(by_slots), goal=Goal("chat", "inter-token-latency", 0.034), ladders=[PARALLEL])
    assert found.best.parallel == 16
    assert found.gain is None


def test_ctrl_c_leaves_what_was_confirmed() -> None:
    class Interrupted(Formula):
        def open(self, preset: fastinfer.Preset) -> Loaded:
            if preset.n_ubatch < 2048:
                raise KeyboardInterrupt
            return super().open(preset)

    work = Interrupted(by_slots)
    with Workbench(work, alone=False) as bench:
        found = Search(bench, START, Goal("chat", "throughput"), [PARALLEL, PIECES], budget=60, report=lambda _: None)
        found.begin()
        with pytest.raises(KeyboardInterrupt):
            found.walk()
        assert found.best.parallel == 32
    assert all(engine.closed for engine in work.opened)
