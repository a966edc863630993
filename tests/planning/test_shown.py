"""A plan as text, on a terminal, in a notebook and as JSON: the same content each time."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastinfer
from consoles import on_console
from fastinfer.planning import Need, Part
from fastinfer.planning.device import Device, device_for
from fastinfer.planning.report import bar

GIB = 2**30


@pytest.fixture(scope="module", params=["RTX-4090", "T4", "cpu"])
def prod(request: pytest.FixtureRequest) -> fastinfer.Plan:
    """One that fits, one that does not, and one that cannot."""
    return fastinfer.plan("prod", kind="classify", gpu=request.param)


@pytest.fixture(scope="module")
def on_t4() -> fastinfer.Plan:
    return fastinfer.plan("prod", kind="classify", gpu="T4")


def test_text_and_terminal_say_the_same(prod: fastinfer.Plan) -> None:
    assert re.sub("[─ \n]+", " ", on_console(prod, 400)).split() == str(prod).split()


def test_text_is_no_wider_than_100_columns_but_for_the_table(prod: fastinfer.Plan) -> None:
    before, _, after = str(prod).partition("\n\n")
    assert max(map(len, before.splitlines())) <= 100
    assert max(map(len, after.partition("\n\n")[2].splitlines())) <= 100
    assert prod.verdict.split() == before.split()[-len(prod.verdict.split()) :]


def test_the_notebook_shows_every_part_and_line(prod: fastinfer.Plan) -> None:
    shown = prod._repr_html_()
    for part in prod.parts:
        assert f">{part.name}</td>" in shown
    for step in prod.steps:
        assert step.text.replace(">", "&gt;") in shown


def test_names_cannot_write_html(on_t4: fastinfer.Plan) -> None:
    named = dataclasses.replace(on_t4, model="/<b onclick=x>&/[red]m.gguf", remarks=("<i>",))
    shown = named._repr_html_()
    assert "<b onclick" not in shown
    assert "<i>" not in shown
    assert "/&lt;b onclick=x&gt;&amp;/[red]m.gguf" in shown
    assert "[red]m.gguf" in on_console(named, 400)


def widths(shown: str) -> list[float]:
    return [float(width) for width in re.findall(r"width:([\d.]+)%", shown)]


def test_the_bars_parts_are_in_proportion(on_t4: fastinfer.Plan) -> None:
    parts, found = on_t4.parts_of("gpu"), widths(bar(on_t4))
    assert found == pytest.approx([100 * part.size / on_t4.size for part in parts], abs=0.01)
    (mark,) = re.findall(r"left:([\d.]+)%", bar(on_t4))
    assert float(mark) == pytest.approx(100 * on_t4.device.available / on_t4.size, abs=0.01)


@given(sizes=st.lists(st.integers(0, 2**50), max_size=12), available=st.integers(0, 2**50))
def test_the_bar_is_never_wider_than_its_place(on_t4: fastinfer.Plan, sizes: list[int], available: int) -> None:
    device = dataclasses.replace(on_t4.device, available=available)
    parts = [Part(f"part {number}", size, "gpu", "") for number, size in enumerate(sizes)]
    shown = bar(dataclasses.replace(on_t4, device=device, need=Need.of(parts)))
    assert sum(widths(shown)) <= 100.0001
    (mark,) = re.findall(r"left:([\d.]+)%", shown)
    assert 0 <= float(mark) <= 100


def test_a_dictionary_has_what_the_plan_has(on_t4: fastinfer.Plan) -> None:
    data = json.loads(json.dumps(on_t4.to_dict(), allow_nan=False))
    assert data["device"] == on_t4.device.to_dict()
    assert data["device"]["source"].startswith("NVIDIA T4")
    assert sum(part["bytes"] for part in data["parts"] if part["place"] == "gpu") == data["size"] == on_t4.size
    assert data["margin"] == data["device"]["available"] - data["size"] < 0
    assert (data["fits"], data["tight"], data["obstacle"]) == (False, False, "")
    assert data["steps"][0]["changes"] == {"max_batch_size": [32, 16]}
    assert [step["taken"] for step in data["steps"]] == [step.taken for step in on_t4.steps]
    assert data["cards"] == list(on_t4.cards)
    assert {"field", "asked", "used", "why"} == set(data["adjustments"][0])


def planned(size: int, device: Device, *, fits: bool) -> fastinfer.Plan:
    made = fastinfer.plan("prod", kind="classify", gpu="H200")
    return dataclasses.replace(made, device=device, need=Need.of([Part("weights", size, "gpu", "all")]), fits=fits)


def test_what_fits_by_less_than_the_figures_are_sure_of_is_called_tight() -> None:
    device = dataclasses.replace(device_for("24GiB"), available=24 * GIB)
    easy, tight = planned(22 * GIB, device, fits=True), planned(23 * GIB, device, fits=True)
    assert (easy.tight, tight.tight) == (False, True)
    assert easy.verdict == "Fits 24GiB: 2.0 GiB of 24.0 GiB are left."
    assert tight.verdict == "Fits 24GiB, but only just: 1.0 GiB of 24.0 GiB are left."


def test_what_does_not_fit_says_what_is_lacking() -> None:
    device = dataclasses.replace(device_for("24GiB"), available=24 * GIB)
    assert planned(25 * GIB, device, fits=False).verdict == "Does not fit 24GiB: 25.0 GiB are needed, 1.0 GiB lacking."
    assert planned(23 * GIB, device, fits=False).verdict.endswith("23.0 GiB are needed, room for the cache lacking.")


def test_where_the_system_does_not_tell_its_memory_the_verdict_says_so() -> None:
    unknown = dataclasses.replace(device_for("24GiB"), memory=0, available=0)
    plan = planned(23 * GIB, unknown, fits=True)
    assert not plan.tight
    assert plan.verdict == "Takes 23.0 GiB on 24GiB; how much there is, the system does not tell."
