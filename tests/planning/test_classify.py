"""Classification on both engines: where it fits, and what the engine gets otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinfer
from fastinfer.machine.cards import Card
from fastinfer.models import CheckpointInfo, check_gguf, outline_checkpoint, outline_gguf
from fastinfer.planning.device import Device, device_for, this_cpu
from fastinfer.planning.llama_classify import LlamaClassifyPlanner
from fastinfer.planning.turbomind_classify import TurbomindPlanner

EMBEDDED = Path(fastinfer.__file__).parent / "models" / "embedded"
GIB = 2**30
INT32_MAX = 2**31 - 1


def prod(gpu: str, **changes: Any) -> fastinfer.Plan:
    return fastinfer.plan("prod", kind="classify", gpu=gpu, **changes)


def sizes(plan: fastinfer.Plan) -> dict[str, int]:
    """Bytes of each part of the memory that decides."""
    return {part.name: part.size for part in plan.parts_of(plan.place)}


@pytest.fixture(scope="module")
def info(scratch: Path) -> CheckpointInfo:
    with outline_checkpoint("OpenGVLab/InternVL3-8B-hf") as outline:
        return outline.info


@pytest.fixture(scope="module")
def one_worker() -> fastinfer.Plan:
    """The embedded model with one worker, which has one thread."""
    return fastinfer.plan("embedded", kind="classify", gpu="H200", workers=1, n_threads=1)


@pytest.fixture(scope="module")
def on_t4() -> fastinfer.Plan:
    return prod("T4")


def test_the_embedded_preset_is_planned_for_the_cpu_whatever_card_is_named(one_worker: fastinfer.Plan) -> None:
    made = one_worker
    assert (made.device.name, made.device.here, made.place) == ("CPU", True, "host")
    assert (made.model, made.source, made.fits, made.cards) == ("embedded", "package", True, ())
    model, projector = check_gguf(EMBEDDED / "embedded.gguf"), check_gguf(EMBEDDED / "embedded-mmproj.gguf")

    def number(key: str) -> int:
        return int(model.metadata[f"{model.architecture}.{key}"])

    heads, width = number("attention.head_count_kv"), number("embedding_length") // number("attention.head_count")
    token = 2 * 4 * number("block_count") * heads * width
    assert sizes(made)["weights"] == sum(tensor.size or 0 for tensor in model.tensors)
    assert sizes(made)["KV cache"] == made.need.parts[1].size == 8192 * token
    assert sizes(made)["vision encoder"] > sum(tensor.size or 0 for tensor in projector.tensors)
    assert made.size < GIB // 2


def test_every_worker_has_a_cache_and_an_encoder_and_so_has_the_one_for_single_images(
    one_worker: fastinfer.Plan,
) -> None:
    one, three = one_worker, fastinfer.plan("embedded", kind="classify", workers=3, n_threads=1)
    for part in ("KV cache", "compute buffers", "logits", "vision encoder"):
        assert sizes(three)[part] == pytest.approx((3 + 1) * sizes(one)[part], rel=1e-6), part
    for part in ("weights", "overhead"):
        assert sizes(three)[part] == sizes(one)[part], part


def test_layers_on_a_gpu_are_planned_for_it() -> None:
    made = fastinfer.plan("embedded", kind="classify", gpu="RTX 4090", n_gpu_layers=-1)
    assert (made.device.name, made.fits) == ("RTX-4090", True)
    assert "T4" in made.cards
    assert sizes(made)["vision encoder"] > 0
    with outline_gguf("embedded") as outline:
        planner = LlamaClassifyPlanner(outline)
    preset = fastinfer.preset("embedded", kind="classify")
    assert planner.obstacle(preset, this_cpu()) == ""
    assert "n_gpu_layers" in planner.obstacle(preset.replace(n_gpu_layers=-1), this_cpu())


def test_prod_fits_a_card_with_24_gb(info: CheckpointInfo) -> None:
    made = prod("RTX 4090")
    assert (made.model, made.source) == ("OpenGVLab/InternVL3-8B-hf", "known shape")
    assert made.fits
    assert made.steps == ()
    assert sizes(made)["weights"] + sizes(made)["vision encoder"] == info.weight_bytes
    assert {adjustment.field for adjustment in made.adjustments} >= {"session_len", "max_prefill_token_num"}
    (bound,) = made.bounds
    assert 10 < bound.value < 150


def test_prod_does_not_fit_a_t4_and_the_documented_steps_are_not_enough(on_t4: fastinfer.Plan) -> None:
    assert not on_t4.fits
    assert not on_t4.obstacle
    assert on_t4.remedy is None
    assert [step.changes for step in on_t4.steps if step.taken] == [{"max_batch_size": (32, 16)}]
    assert "RTX-4090" in on_t4.cards
    assert "T4" not in on_t4.cards


def test_what_the_card_cannot_compute_in_is_an_adjustment(on_t4: fastinfer.Plan) -> None:
    (dtype,) = (adjustment for adjustment in on_t4.adjustments if adjustment.field == "dtype")
    assert (dtype.asked, dtype.used) == ("auto", "float16")
    assert not any(adjustment.field == "dtype" for adjustment in prod("RTX-4090").adjustments)


def test_a_card_that_is_known_by_its_memory_alone_gets_an_answer() -> None:
    made = prod("24GiB")
    assert made.fits
    assert made.bounds == ()
    assert not prod("16GiB").fits


def test_prod_needs_a_gpu() -> None:
    made = prod("cpu")
    assert "needs an NVIDIA GPU" in made.obstacle
    assert not made.fits
    assert made.steps == ()
    # What it takes of a GPU is shown for the smallest card that would do.
    smallest, *others = made.cards
    assert smallest in made.obstacle
    assert "RTX-4090" in others
    assert made.parts_of("gpu") == prod(smallest).parts_of("gpu") != []


def test_prod_needs_a_gpu_that_is_not_too_old(info: CheckpointInfo) -> None:
    planner, preset = TurbomindPlanner(info), fastinfer.preset("prod", kind="classify")

    def obstacle(capability: tuple[int, int] | None) -> str:
        card = Card("a card", (), 24 * GIB, None, None, capability, "a test")
        return planner.obstacle(preset, Device(card.name, False, card.memory, card.usable, card))

    assert "compute capability 6.0" in obstacle((6, 0))
    assert obstacle((7, 0)) == obstacle(None) == ""


def test_of_a_gpu_that_is_here_the_cache_shares_what_others_leave(info: CheckpointInfo) -> None:
    planner, preset = TurbomindPlanner(info), fastinfer.preset("prod", kind="classify")
    idle = dataclasses.replace(device_for("H200"), here=True)
    busy = dataclasses.replace(idle, available=idle.available - 40 * GIB)

    def cache(device: Device) -> int:
        (need,) = planner.needs([preset], device)
        return next(part.size for part in need.parts if part.name == "KV cache")

    assert cache(idle) - cache(busy) == pytest.approx(0.2 * 40 * GIB, abs=1)


def test_tp_divides_the_model_over_its_gpus() -> None:
    one, two = prod("H200"), prod("H200", tp=2)
    assert sizes(two)["weights"] == pytest.approx(sizes(one)["weights"] / 2, abs=1)
    assert "1/2 of the model" in str(two)


@pytest.mark.gpu
def test_without_a_name_it_is_the_gpu_that_is_here() -> None:
    made = fastinfer.plan("prod", kind="classify")
    assert (made.device.is_gpu, made.device.here) == (True, True)
    assert 0 < made.device.available <= made.device.memory


def changes() -> st.SearchStrategy[dict[str, Any]]:
    def count(*usual: int) -> st.SearchStrategy[int]:
        return st.sampled_from(usual) | st.integers(1, INT32_MAX)

    fields: dict[str, st.SearchStrategy[Any]] = {
        "session_len": count(64, 512, 4096),
        "max_batch_size": count(1, 16, 64, 128),
        "max_prefill_token_num": count(128, 8192),
        "cache_max_entry_count": st.floats(0.0001, 0.9999),
        "cache_block_seq_len": st.integers(1, INT32_MAX // 64).map(lambda blocks: 64 * blocks),
        "quant_policy": st.sampled_from([0, 4, 8]),
        "tp": st.integers(1, 1024),
        "dtype": st.sampled_from(["auto", "float16", "bfloat16"]),
        "max_tiles": count(1, 12),
    }
    return st.fixed_dictionaries({}, optional=fields)


@settings(max_examples=25, deadline=None)
@given(
    changed=changes(),
    gpu=st.sampled_from(["H200", "RTX-4090", "T4", "24GiB", "1 GB", "cpu"]),
    size=st.sampled_from(["8B", "1B"]),
)
def test_whatever_is_legal_gets_a_plan(changed: dict[str, Any], gpu: str, size: str) -> None:
    made = prod(gpu, model=f"OpenGVLab/InternVL3-{size}-hf", **changed)
    assert json.loads(json.dumps(made.to_dict(), allow_nan=False))["fits"] == made.fits
    assert made.verdict in " ".join(str(made).split())
    assert not made.fits or made.margin >= 0
    for step in made.steps:
        assert all(used < asked for asked, used in step.changes.values())
