"""What a model takes of a GPU's memory: counted by hand, refused where it does not fit, with a remedy that holds."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.engines.turbomind.memory import check_memory, memory_need
from fastinfer.engines.turbomind.settings import EngineSettings, effective_settings
from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.models import CheckpointInfo, TensorPlace, TextPart, VisionPart
from fastinfer.preset_library import TurbomindClassifyParameters, preset

PROD = preset("prod", kind="classify")
GIB = 2**30


def head(vocabulary: int, hidden: int) -> TensorPlace:
    return TensorPlace(Path("model.safetensors"), "lm_head.weight", "BF16", (vocabulary, hidden), 0, 0)


#: InternVL3-8B: 28 layers, 4 heads of keys and values, 128 wide; 15.9 GB of weights.
EIGHT = CheckpointInfo(
    folder=Path("InternVL3-8B-hf"),
    architecture="InternVLForConditionalGeneration",
    text=TextPart("Qwen2ForCausalLM", 28, 3584, 28, 4, 128, 151_674, 32_768),
    vision=VisionPart(24, 1024, 16, 64, 14, (448, 448), 2),
    dtype="bfloat16",
    quantisation=None,
    needs_remote_code=False,
    weight_bytes=15_888_740_352,
    end_tokens=(151_645,),
    tiles=1,
    image_tokens=256,
    processor={},
    config={"text_config": {"intermediate_size": 18_944}},
    head=head(151_674, 3584),
)


def made(info: CheckpointInfo = EIGHT, **changes: Any) -> EngineSettings:
    parameters = PROD.replace(**changes).parameters
    assert isinstance(parameters, TurbomindClassifyParameters)
    return effective_settings(parameters, info, devices=tuple(range(parameters.tp)))[0]


@pytest.mark.parametrize(
    ("bits", "token"),
    [
        (0, 2 * 28 * 4 * 128 * 2),
        (8, 2 * 28 * 4 * (128 + 4)),
        (4, 2 * 28 * 4 * (64 + 4)),
    ],
)
def test_a_token_of_internvl3_8b_takes_what_its_keys_and_values_do(bits: int, token: int) -> None:
    assert memory_need(EIGHT, made(quant_policy=bits)).token == token
    assert bits or token == 57_344


def test_the_parts_of_internvl3_8b_are_those_counted_by_hand() -> None:
    need = memory_need(EIGHT, made(quant_policy=0))
    assert need.weights == 15_888_740_352
    assert need.head == 2 * 151_674 * 3584
    assert (need.tokens, need.request) == (8192, 512)
    # Blocks of 64 tokens are 3.5 MiB, so nine fill a slab of 32 MiB to 98 %; 136 blocks, and 32 MiB for alignment.
    assert need.cache == (16 + 1) * 32 * 2**20
    # Of each token the MLP's two halves and eight hidden states, in 16 bits.
    assert need.passing == 2 * (2 * 18_944 + 8 * 3584)
    assert (need.rows, need.scores) == (256, 10 * EIGHT.text.vocabulary)
    assert need.activations == need.fixed + 256 * need.scores + 8192 * need.passing


def test_tp_divides_what_is_split_over_the_gpus() -> None:
    one, two = memory_need(EIGHT, made()), memory_need(EIGHT, made(tp=2))
    assert two.weights == one.weights // 2
    assert two.token == one.token // 2
    assert two.activations < one.activations
    assert two.head == one.head


def test_a_gpu_has_at_least_one_whole_head_of_keys_and_values() -> None:
    tokens = [memory_need(EIGHT, made(tp=tp)).token for tp in (1, 2, 4, 8)]
    assert tokens == [tokens[0], tokens[0] // 2, tokens[0] // 4, tokens[0] // 4]


def test_layers_of_linear_attention_keep_a_state_for_each_request_instead() -> None:
    text = replace(EIGHT.text, linear_layers=21, state_numbers=21 * 1000)
    need, all_full = memory_need(replace(EIGHT, text=text), made()), memory_need(EIGHT, made())
    assert (need.token, need.state) == (all_full.token // 4, 2 * 21 * 1000)
    # A slab holds the blocks, and one the states of sixteen requests of 512 tokens in a pass and of one that waits.
    assert need.cache == (1 + 1 + 1) * 32 * 2**20
    assert memory_need(replace(EIGHT, text=text), made(tp=2)).state == need.state // 2


@pytest.mark.parametrize(
    ("block_len", "pages"),
    [
        (64, 16),  # nine blocks of 3.5 MiB fill 98 % of 32 MiB: 16 slabs for 136
        (384, 16),  # one of 21 MiB fills 66 % of 32 MiB, three fill 98 % of 64: 8 slabs for 24
        (960, 32),  # of 52.5 MiB, 19 fill 97 % of 1 GiB, and 9 only 92 % of half of it: a slab for 10
        (11_008, 64),  # each of 602 MiB takes 1 GiB
    ],
)
def test_the_cache_is_counted_in_slabs_as_turbomind_allocates_it(block_len: int, pages: int) -> None:
    need = memory_need(EIGHT, made(quant_policy=0, cache_block_seq_len=block_len))
    assert need.cache == (pages + 1) * 32 * 2**20


def test_the_cache_holds_the_longest_prompt_of_the_warm_up() -> None:
    need = memory_need(EIGHT, made(quant_policy=0, max_batch_size=600, session_len=512))
    assert (need.slots, need.request) == (600, 512)
    assert need.cache // (32 * 2**20) - 1 == -(-(8192 // 64 + 10) // 9)


def test_without_an_output_matrix_of_its_own_nothing_is_kept_for_label_scoring() -> None:
    assert memory_need(replace(EIGHT, head=None), made()).head == 0


def test_weights_saved_in_32_bits_are_loaded_in_16() -> None:
    saved = replace(EIGHT, dtype="float32", weight_bytes=2 * EIGHT.weight_bytes)
    assert memory_need(saved, made(saved)).weights == EIGHT.weight_bytes


@pytest.mark.parametrize("config", [{"llm_config": {"intermediate_size": 18_944}}, {"intermediate_size": 18_944}])
def test_the_mlps_width_is_found_in_every_layout_of_config_json(config: dict[str, Any]) -> None:
    assert memory_need(replace(EIGHT, config=config), made()).passing == memory_need(EIGHT, made()).passing


def test_a_model_that_says_nothing_of_its_mlp_is_taken_for_a_wide_one() -> None:
    assert memory_need(replace(EIGHT, config={}), made()).passing == 2 * (8 + 8) * 3584


@pytest.mark.parametrize("gib", [23, 40, 80, 139])
def test_internvl3_8b_fits_the_gpus_it_is_meant_for(gib: int) -> None:
    check_memory(EIGHT, made(), free=gib * GIB, gpu="GPU 0")


def test_a_refusal_names_the_model_the_gpu_and_each_part() -> None:
    with pytest.raises(EngineOutOfMemoryError) as error:
        check_memory(EIGHT, made(), free=8 * GIB, gpu="GPU 1 (NVIDIA T4)")
    for words in ("InternVL3-8B-hf", "GPU 1 (NVIDIA T4)", "weights 14.8 GiB", "label scoring 1.0 GiB", "8.0 GiB are"):
        assert words in error.value.message
    assert error.value.hint is not None
    assert "smaller or quantised model" in error.value.hint


@pytest.mark.parametrize(("share", "verb"), [(0.001, "Raise"), (0.95, "Lower")])
def test_where_only_the_share_is_wrong_it_is_moved(share: float, verb: str) -> None:
    with pytest.raises(EngineOutOfMemoryError) as error:
        check_memory(EIGHT, made(cache_max_entry_count=share), free=24 * GIB, gpu="GPU 0")
    assert error.value.hint is not None
    assert error.value.hint.startswith(f"{verb} cache_max_entry_count from {share:g} to 0.")
    assert "max_batch_size" not in error.value.hint


def applied(hint: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The preset's changes after the advice was taken."""
    moved = dict(changes)
    if found := re.search(r"max_prefill_token_num (?:at most|from \d+ to) (\d+)", hint):
        moved["max_prefill_token_num"] = min(moved["max_prefill_token_num"], int(found[1]))
    if found := re.search(r"max_batch_size from \d+ to (\d+)", hint):
        assert int(found[1]) < moved["max_batch_size"]
        moved["max_batch_size"] = int(found[1])
    if found := re.search(r"cache_max_entry_count from \S+ to ([0-9.e-]*\d)", hint):
        moved["cache_max_entry_count"] = float(found[1])
    return moved


@settings(deadline=None, max_examples=examples(300))
@given(
    free=st.one_of(st.integers(0, 200 * GIB), st.integers(16 * GIB, 22 * GIB)),
    weights=st.sampled_from([4_000_000, 2 * GIB, EIGHT.weight_bytes, 70 * GIB]),
    session_len=st.sampled_from([300, 512, 2048, 40_000]),
    batch=st.integers(1, 256),
    prefill=st.sampled_from([1, 128, 8192, 65_536]),
    share=st.floats(0.0001, 0.9999),
    bits=st.sampled_from([0, 4, 8]),
    tp=st.sampled_from([1, 2, 4]),
    state=st.sampled_from([0, 2**20, 2**26]),
)
def test_whoever_follows_the_advice_is_not_refused_again(
    free: int, weights: int, session_len: int, batch: int, prefill: int, share: float, bits: int, tp: int, state: int
) -> None:
    info = replace(EIGHT, weight_bytes=weights, text=replace(EIGHT.text, linear_layers=21, state_numbers=state))
    changes = {
        "session_len": session_len,
        "max_batch_size": batch,
        "max_prefill_token_num": prefill,
        "cache_max_entry_count": share,
        "quant_policy": bits,
        "tp": tp,
    }
    try:
        check_memory(info, made(info, **changes), free=free, gpu="GPU 0")
    except EngineOutOfMemoryError as error:
        hint = error.hint or ""
    else:
        assume(False)
    if "smaller or quantised" in hint:
        # Nothing that can be lowered helps: not the shortest pass, whatever the cache's share.
        need = memory_need(info, made(info, **changes))
        need = replace(need, tokens=min(session_len, 8192), slots=8, rows=min(8, need.rows))
        least, most = need.shares(free)
        assert most - least < 0.00001
        return
    after = applied(hint, changes)
    assert after != changes
    check_memory(info, made(info, **after), free=free, gpu="GPU 0")
