"""What TurboMind is given for a preset: the documented values, derived ones with a reason, and never an illegal one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinfer.engines.turbomind.settings import EngineSettings, effective_settings, replica_devices
from fastinfer.models import CheckpointInfo, TextPart, VisionPart
from fastinfer.preset_library import TurbomindClassifyParameters, preset
from fastinfer.provenance import Adjustment

PROD = preset("prod", kind="classify")
INT32_MAX = 2**31 - 1


def checkpoint(
    *,
    head_dim: int = 128,
    dtype: str = "bfloat16",
    quantisation: str | None = None,
    tiles: int = 1,
    size: tuple[int, int] | None = (448, 448),
) -> CheckpointInfo:
    """A checkpoint of InternVL3-8B's shape."""
    return CheckpointInfo(
        folder=Path("model"),
        architecture="InternVLForConditionalGeneration",
        text=TextPart("Qwen2ForCausalLM", 28, 3584, 28, 4, head_dim, 151_674, 32_768),
        vision=VisionPart(24, 1024, 16, 64, 14, size, 2),
        dtype=dtype,
        quantisation=quantisation,
        needs_remote_code=False,
        weight_bytes=2**34,
        end_tokens=(151_645,),
        tiles=tiles,
        image_tokens=256,
        processor={},
        config={},
        head=None,
    )


def effective(info: CheckpointInfo | None = None, **changes: Any) -> tuple[EngineSettings, dict[str, Adjustment]]:
    bfloat16 = changes.pop("bfloat16", True)
    parameters = PROD.replace(**changes).parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    made, adjustments = effective_settings(parameters, info, devices=replica_devices(parameters)[0], bfloat16=bfloat16)
    fields = [adjustment.field for adjustment in adjustments]
    assert len(set(fields)) == len(fields)
    return made, {adjustment.field: adjustment for adjustment in adjustments}


def test_the_prod_preset_keeps_its_documented_values_but_for_four_that_turbomind_reads_otherwise() -> None:
    made, adjustments = effective(checkpoint())
    assert made == EngineSettings(
        dtype="bfloat16",
        model_format=None,
        tp=1,
        devices=(0,),
        session_len=32_768,
        max_batch_size=32,
        in_flight=96,
        slots=256,
        cache_max_entry_count=0.2,
        cache_block_seq_len=64,
        quant_policy=4,
        max_prefill_token_num=8192,
        enable_prefix_caching=True,
        cache_prompt="all",
        log_level="ERROR",
        vision_max_batch_size=32,
        request_limit=512,
    )
    assert {field: (item.asked, item.used) for field, item in adjustments.items()} == {
        "session_len": (512, 32_768),
        "max_batch_size": (32, 256),
        "max_prefill_token_num": (128, 8192),
        "vision_max_batch_size": (32, "as many as a pass holds"),
    }


def test_every_adjustment_has_a_reason_and_a_field_of_the_preset() -> None:
    _, adjustments = effective(checkpoint(head_dim=64, dtype="float32", tiles=12))
    assert len(adjustments) == 7
    for field, item in adjustments.items():
        assert field in {*TurbomindClassifyParameters.model_fields, "image_tiles"}
        assert item.asked != item.used
        assert len(item.why.split()) > 4
        assert not item.why.endswith(".")


@pytest.mark.parametrize(
    ("session_len", "batch", "engine"),
    [
        (512, 1, 4096),
        (512, 8, 32_768),
        (512, 32, 32_768),
        (40_000, 1, 40_000),
        (40_000, 8, 40_000),
        (1, 1, 8),
    ],
)
def test_the_engines_session_has_room_for_the_requests_of_every_slot(session_len: int, batch: int, engine: int) -> None:
    made, adjustments = effective(session_len=session_len, max_batch_size=batch)
    assert (made.session_len, made.request_limit) == (engine, session_len)
    assert ("session_len" in adjustments) == (engine != session_len)


@pytest.mark.parametrize(
    ("batch", "in_flight", "slots"), [(1, 3, 8), (32, 96, 256), (100, 300, 512), (1000, 1000, 1000)]
)
def test_a_batch_gets_thrice_its_images_in_flight_and_slots_for_their_further_rows(
    batch: int, in_flight: int, slots: int
) -> None:
    made, adjustments = effective(max_batch_size=batch)
    assert (made.in_flight, made.slots) == (in_flight, slots)
    assert ("max_batch_size" in adjustments) == (slots != batch)


@pytest.mark.parametrize(
    ("asked", "session_len", "batch", "engine"),
    [(128, 512, 32, 8192), (128, 512, 2, 1024), (16_384, 512, 32, 16_384), (1, 1, 1, 1), (8192, 512, 32, 8192)],
)
def test_a_pass_reads_whole_prompts(asked: int, session_len: int, batch: int, engine: int) -> None:
    made, adjustments = effective(max_prefill_token_num=asked, session_len=session_len, max_batch_size=batch)
    assert made.max_prefill_token_num == engine
    assert ("max_prefill_token_num" in adjustments) == (engine != asked)


@pytest.mark.parametrize(
    ("asked", "head_dim", "used"),
    [(4, 128, 4), (4, 64, 8), (4, 256, 8), (8, 64, 8), (8, 128, 8), (0, 64, 0), (0, 128, 0)],
)
def test_an_int4_cache_is_only_for_heads_that_are_128_wide(asked: int, head_dim: int, used: int) -> None:
    made, adjustments = effective(checkpoint(head_dim=head_dim), quant_policy=asked)
    assert made.quant_policy == used
    assert ("quant_policy" in adjustments) == (used != asked)
    if used != asked:
        assert f"those of this model are {head_dim}" in adjustments["quant_policy"].why


@pytest.mark.parametrize(
    ("asked", "saved", "bfloat16", "used", "reported"),
    [
        ("auto", "bfloat16", True, "bfloat16", False),
        ("auto", "float16", True, "float16", False),
        ("auto", "", True, "auto", False),
        ("auto", "float32", True, "bfloat16", True),
        ("float16", "float32", True, "float16", False),
        ("bfloat16", "float32", True, "bfloat16", False),
        ("float16", "bfloat16", True, "float16", False),
        ("auto", "bfloat16", False, "float16", True),
        ("auto", "float32", False, "float16", True),
        ("auto", "", False, "float16", True),
        ("auto", "float16", False, "float16", False),
        ("bfloat16", "bfloat16", False, "float16", True),
        ("float16", "bfloat16", False, "float16", False),
    ],
)
def test_auto_is_the_checkpoints_number_format_and_another_is_reported(
    asked: str, saved: str, bfloat16: bool, used: str, reported: bool
) -> None:
    made, adjustments = effective(checkpoint(dtype=saved), dtype=asked, bfloat16=bfloat16)
    assert made.dtype == used
    assert ("dtype" in adjustments) == reported


@pytest.mark.parametrize(
    ("asked", "saved", "quantisation", "used", "reported"),
    [
        ("auto", "float16", "awq", "auto", False),
        ("auto", "bfloat16", "fp8", "auto", False),
        ("float16", "float16", "awq", "float16", False),
        ("auto", "float16", "fp8", "bfloat16", True),
        ("float16", "bfloat16", "fp8", "bfloat16", True),
    ],
)
def test_for_quantised_weights_the_engine_chooses_what_its_kernels_take(
    asked: str, saved: str, quantisation: str, used: str, reported: bool
) -> None:
    made, adjustments = effective(checkpoint(dtype=saved, quantisation=quantisation), dtype=asked)
    assert (made.dtype, "dtype" in adjustments) == (used, reported)


def test_fewer_tiles_than_the_models_own_are_reported() -> None:
    _, adjustments = effective(checkpoint(tiles=12))
    why = "images are resized to 448x448, one tile, so that each costs 256 tokens"
    assert adjustments["image_tiles"] == Adjustment("image_tiles", 12, 1, why)
    _, adjustments = effective(checkpoint(tiles=12), max_tiles=6)
    assert (adjustments["image_tiles"].asked, adjustments["image_tiles"].used) == (12, 6)
    assert "image_tiles" not in effective(checkpoint(tiles=12), max_tiles=12)[1]
    assert "image_tiles" not in effective(checkpoint(tiles=1), max_tiles=6)[1]


def test_without_a_checkpoint_what_depends_on_it_stays_as_the_preset_has_it() -> None:
    made, adjustments = effective(None)
    assert (made.quant_policy, made.dtype) == (4, "auto")
    assert set(adjustments) == {"session_len", "max_batch_size", "max_prefill_token_num", "vision_max_batch_size"}


def test_a_weight_format_is_passed_on_and_auto_is_read_from_the_checkpoint() -> None:
    assert effective(model_format="awq")[0].model_format == "awq"
    assert effective(model_format="auto")[0].model_format is None


@pytest.mark.parametrize(
    ("devices", "tp", "replicas"),
    [
        ([], 1, ((0,),)),
        ([], 2, ((0, 1),)),
        ([3], 1, ((3,),)),
        ([0, 1, 2], 1, ((0,), (1,), (2,))),
        ([3, 1, 0, 2], 2, ((3, 1), (0, 2))),
    ],
)
def test_devices_are_shared_out_to_replicas_of_tp_gpus(
    devices: list[int], tp: int, replicas: tuple[tuple[int, ...], ...]
) -> None:
    parameters = PROD.replace(devices=devices, tp=tp).parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    assert replica_devices(parameters) == replicas


def choices(field: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(TurbomindClassifyParameters.model_fields[field].annotation))


def counts(least: int = 1) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(least, INT32_MAX), st.integers(least, 70_000), st.sampled_from([least, INT32_MAX]))


@st.composite
def legal(draw: st.DrawFn) -> dict[str, Any]:
    """Any legal values of the fields that reach the engine."""
    replicas, tp = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    devices = draw(st.lists(st.integers(0, 99), min_size=replicas * tp, max_size=replicas * tp, unique=True))
    return {
        "session_len": draw(counts()),
        "max_batch_size": draw(counts()),
        "max_prefill_token_num": draw(counts()),
        "cache_max_entry_count": draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        "cache_block_seq_len": 64 * draw(st.integers(1, INT32_MAX // 64)),
        "quant_policy": draw(choices("quant_policy")),
        "vision_max_batch_size": draw(counts()),
        "dtype": draw(choices("dtype")),
        "model_format": draw(choices("model_format")),
        "max_tiles": draw(counts()),
        "tp": tp,
        "devices": devices,
    }


@settings(deadline=None)
@given(
    values=legal(),
    bfloat16=st.booleans(),
    head_dim=st.sampled_from([64, 80, 96, 128, 256]),
    saved=st.sampled_from(["", "float16", "bfloat16", "float32"]),
    known=st.booleans(),
)
def test_what_turbomind_ends_the_process_on_never_comes_out(
    values: dict[str, Any], bfloat16: bool, head_dim: int, saved: str, known: bool
) -> None:
    info = checkpoint(head_dim=head_dim, dtype=saved, tiles=7) if known else None
    made, adjustments = effective(info, **values, bfloat16=bfloat16)
    for count in (made.session_len, made.slots, made.max_prefill_token_num, made.request_limit, made.tp):
        assert 1 <= count <= INT32_MAX
    assert made.session_len >= made.request_limit
    assert 0 < made.cache_max_entry_count < 1
    assert made.cache_block_seq_len % 64 == 0
    assert 64 <= made.cache_block_seq_len <= INT32_MAX
    assert made.quant_policy in ({0, 8} if known and head_dim != 128 else {0, 4, 8})
    assert made.dtype in ("auto", "float16", "bfloat16")
    assert not (made.dtype == "bfloat16" and not bfloat16)
    assert not (made.dtype == "auto" and known and saved)
    assert len(made.devices) == len(set(made.devices)) == made.tp
    assert min(made.devices) >= 0
    assert made.model_format != "auto"
    # Every number that differs from the preset's is reported.
    for field in ("session_len", "max_prefill_token_num", "quant_policy", "tp"):
        assert (getattr(made, field) != values[field]) == (field in adjustments)
    assert (made.slots != values["max_batch_size"]) == ("max_batch_size" in adjustments)
    meant = saved if known and saved and values["dtype"] == "auto" else values["dtype"]
    assert (made.dtype != meant) == ("dtype" in adjustments)


def test_a_preset_that_needs_nothing_else_reports_only_the_encoders_batch() -> None:
    made, adjustments = effective(
        checkpoint(), session_len=32_768, max_batch_size=1, max_prefill_token_num=8192, quant_policy=0
    )
    assert set(adjustments) == {"max_batch_size", "vision_max_batch_size"}
    assert (made.session_len, made.max_prefill_token_num, made.quant_policy) == (32_768, 8192, 0)
