"""Figures: what they say of several rounds, and that they survive JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from fastinfer.errors import PresetError
from fastinfer.measuring import Figures, spread, summarise
from fastinfer.measuring.figures import percentile

ONE = Figures("chat", 8, 1, 2.0, 100.0, 4, 0.5, 0.7, 0.9, "4 at a time", 200, 80, 8, 0.1, 0.2, 0.01, 0.03, 1000, None)


def other(**changes: object) -> Figures:
    return dataclasses.replace(ONE, **changes)


@pytest.mark.parametrize("share", [1, 50, 95, 99])
@pytest.mark.parametrize("values", [[3.0, 1.0], [5.0, 2.0, 8.0], list(range(100)), [1.0] * 7])
def test_percentiles_are_numpys(values: list[float], share: int) -> None:
    assert percentile(values, share) == pytest.approx(np.percentile(values, share))


def test_a_single_value_is_each_of_its_percentiles_and_nothing_has_none() -> None:
    assert percentile([4.0], 95) == 4.0
    assert percentile([], 95) is None


def test_rounds_become_their_medians_with_all_errors_and_the_most_memory() -> None:
    rounds = [ONE, other(throughput=120.0, errors=2, memory=900), other(throughput=90.0, ttft_p50=None, memory=1100)]
    found = summarise(rounds)
    assert (found.throughput, found.errors, found.memory, found.gpu_memory) == (100.0, 4, 1100, None)
    assert (found.kind, found.items, found.latency_load, found.ttft_p50) == ("chat", 8, "4 at a time", 0.1)
    assert summarise([ONE]) == ONE


def test_the_spread_is_the_lowest_and_the_highest_round_of_what_was_measured() -> None:
    ends = spread([ONE, other(throughput=120.0)])
    assert ends["throughput"] == (100.0, 120.0)
    assert ends["seconds"] == (2.0, 2.0)
    assert not {"kind", "items", "latency_load", "gpu_memory"} & set(ends)


def test_figures_survive_json() -> None:
    assert Figures.from_dict(json.loads(json.dumps(ONE.to_dict()))) == ONE


@pytest.mark.parametrize("change", [{"speed": 1.0}, {"throughput": ...}])
def test_figures_with_a_figure_too_many_or_too_few_are_refused(change: dict[str, object]) -> None:
    data = {key: value for key, value in {**ONE.to_dict(), **change}.items() if value is not ...}
    with pytest.raises(PresetError, match="Figures cannot be read"):
        Figures.from_dict(data)


def test_the_unit_is_that_of_the_kind() -> None:
    assert (ONE.unit, other(kind="classify").unit) == ("tokens/s", "images/s")
