"""Chat on llama.cpp: where it fits, what would make it fit, and what the CPU would take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastinfer
from fastinfer.models import check_gguf, outline_gguf
from fastinfer.planning import Need, Part
from fastinfer.planning.device import Device, device_for
from fastinfer.planning.llama_chat import LlamaChatPlanner

GIB = 2**30


@pytest.fixture(scope="module")
def on_24_gb() -> fastinfer.Plan:
    """Balanced on a card that is too small for it."""
    return fastinfer.plan("balanced", kind="chat", gpu="RTX-4090")


@pytest.fixture(scope="module")
def planner(babbler: Path) -> Iterator[LlamaChatPlanner]:
    with outline_gguf(babbler) as outline:
        yield LlamaChatPlanner(outline)


@pytest.fixture(scope="module")
def small() -> fastinfer.Preset:
    changes = {"n_ctx": 2048, "n_batch": 512, "n_ubatch": 512}
    return fastinfer.preset("balanced", kind="chat").replace(**changes)


def parts(plan: fastinfer.Plan) -> dict[str, int]:
    """Bytes of each part of the memory that decides."""
    return {part.name: part.size for part in plan.parts_of(plan.place)}


def test_on_a_card_that_is_too_small_the_documented_steps_come_in_their_order(on_24_gb: fastinfer.Plan) -> None:
    assert not on_24_gb.fits
    assert not on_24_gb.obstacle
    assert on_24_gb.margin < 0
    taken = {"n_ubatch": (2048, 1024)}
    documented = [
        (taken, True),
        # A slot fewer has more padding: neither step takes less, and what follows does without them.
        ({**taken, "parallel": (8, 6)}, False),
        ({**taken, "parallel": (8, 4)}, False),
        ({**taken, "n_ctx": (32768, 16384)}, True),
    ]
    *steps, last = on_24_gb.steps
    assert [(step.changes, step.taken) for step in steps] == documented
    assert not any(step.fits for step in steps)
    assert last.changes.items() > documented[-1][0].items()
    assert last.changes.keys() - documented[-1][0].keys() == {"n_gpu_layers"}
    assert last.fits
    assert last == on_24_gb.remedy
    assert last.why


def test_the_last_resort_leaves_no_layer_off_the_gpu_that_fits_it(on_24_gb: fastinfer.Plan) -> None:
    found = on_24_gb.steps[-1].preset
    with outline_gguf(found.model) as outline:
        most, more = LlamaChatPlanner(outline).needs(
            [found, found.replace(n_gpu_layers=found.n_gpu_layers + 1)], on_24_gb.device
        )
    assert 0 < found.n_gpu_layers < 64
    assert most.total("gpu") == on_24_gb.steps[-1].size <= on_24_gb.device.available < more.total("gpu")


def test_the_quantisation_that_it_says_would_fit_does(on_24_gb: fastinfer.Plan) -> None:
    told = re.search(r"at most ([\d.]+) GiB, ([\d.]+) bits a weight", on_24_gb.remarks[-1])
    assert told is not None
    model, smallest = "unsloth/Seed-OSS-36B-Instruct-GGUF:Q4_K_M", on_24_gb.steps[-2].preset
    with outline_gguf(model) as outline:
        weights = sum(tensor.size or 0 for tensor in outline.headers[0].tensors)
    assert weights < float(told[1]) * GIB
    made = fastinfer.plan(smallest, model=model, gpu="RTX-4090")
    assert made.fits
    assert made.margin == pytest.approx(float(told[1]) * GIB - weights, abs=0.1 * GIB)


def test_the_cards_that_it_fits_are_named(on_24_gb: fastinfer.Plan) -> None:
    assert {"A100-40GB", "L40S", "H200"} <= set(on_24_gb.cards)
    assert not {"A10", "L4", "RTX-3090", "RTX-4090", "T4"} & set(on_24_gb.cards)


def test_the_bounds_are_the_data_sheets_arithmetic(on_24_gb: fastinfer.Plan) -> None:
    card = on_24_gb.device.card
    assert card is not None
    assert card.bandwidth is not None
    assert card.flops is not None
    one, together, prompts = on_24_gb.bounds
    assert one.value == pytest.approx(card.bandwidth / parts(on_24_gb)["weights"])
    assert together.value == pytest.approx(8 * one.value)
    assert prompts.value == pytest.approx(card.flops / (2 * 36_151_104_512), rel=1e-6)


def test_without_a_gpu_a_preset_for_one_does_not_run_and_the_cpus_figures_are_shown(babbler: Path) -> None:
    made = fastinfer.plan("balanced", kind="chat", model=babbler, gpu="cpu")
    assert "CUDA0" in made.obstacle
    assert made.verdict.startswith("Does not run on CPU: ")
    assert not made.fits
    assert made.steps == made.bounds == ()
    assert "RTX-4090" in made.cards
    assert {part.place for part in made.parts} == {"host"}


def test_a_cache_takes_what_keys_and_values_of_its_tokens_do(
    planner: LlamaChatPlanner, small: fastinfer.Preset, babbler: Path
) -> None:
    embedded = fastinfer.preset("embedded", kind="chat").replace(n_ctx=2048, n_batch=512, n_ubatch=512, parallel=4)
    plain = {"type_k": "f16", "type_v": "f16"}
    presets = [
        small.replace(**plain),
        small.replace(**plain, kv_unified=True),
        small,
        small.replace(**plain, n_gpu_layers=2),
    ]
    divided, shared, quantised, half = planner.needs(presets, device_for("H200"))
    (on_cpu,) = planner.needs([embedded.replace(**plain, kv_unified=False)], device_for("cpu"))

    def cache(need: Need, place: str = "gpu") -> int:
        return sum(part.size for part in need.parts if (part.name, part.place) == ("KV cache", place))

    token = 2 * 2 * 128 * 2  # keys and values of 2 layers, 128 wide, in 16 bits
    assert cache(shared) == 2048 * token
    assert cache(divided) == 2048 // 8 * 9 * token  # a slot more, for padding
    assert cache(on_cpu, "host") == 2048 * token  # not so on a CPU
    assert cache(quantised) == pytest.approx(cache(divided) * 34 / 64, abs=2**20 / 100)  # as exact as llama.cpp says it
    # The output is the last layer of three.
    assert cache(half) == cache(half, "host") == cache(divided) // 2
    weights = sum(tensor.size or 0 for tensor in check_gguf(babbler).tensors)
    assert on_cpu.parts[0].size == weights
    assert sum(part.size for part in half.parts if part.name == "weights") == weights


def test_a_conversation_longer_than_the_model_was_trained_for_is_an_adjustment(
    planner: LlamaChatPlanner, small: fastinfer.Preset
) -> None:
    device = device_for("H200")
    assert list(planner.adjustments(small, device)) == []
    (adjustment,) = planner.adjustments(small.replace(n_ctx=8192, parallel=1), device)
    assert (adjustment.field, adjustment.asked, adjustment.used) == ("n_ctx", 8192, 4096)


def test_what_was_tried_is_not_tried_again(planner: LlamaChatPlanner, small: fastinfer.Preset, babbler: Path) -> None:
    planner.needs([small], device_for("H200"))
    before = babbler.read_bytes()
    babbler.unlink()
    try:
        assert planner.needs([small], device_for("A100-40GB")) == planner.needs([small], device_for("H200"))
    finally:
        babbler.write_bytes(before)


def test_where_the_system_does_not_tell_its_memory_nothing_is_held_against_a_plan(
    planner: LlamaChatPlanner, small: fastinfer.Preset
) -> None:
    unknown = Device("CPU", True, 0, 0, None)
    assert planner.fits(small, Need.of([Part("weights", 2**40, "host", "all")]), unknown)
