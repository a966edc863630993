from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.errors import PresetError
from fastinfer.preset_library import Preset, preset, presets

OTHER_VALUES = {
    "max_concurrent_requests": 32,
    "log_level": "INFO",
    "session_len": 64,
    "max_batch_size": 64,
    "cache_max_entry_count": 0.8,
    "cache_block_seq_len": 128,
    "max_prefill_token_num": 8192,
    "quant_policy": 8,
    "vision_max_batch_size": 16,
    "dtype": "float16",
    "model_format": "awq",
    "trust_remote_code": True,
    "tp": 2,
    "devices": [1],
    "label_tolerance": 0.0,
    "max_tiles": 4,
    "min_image_pixels": 3136,
    "max_image_pixels": 200_704,
    "prompt": "Which?",
    "open_prompt": "What?",
    "max_label_tokens": 3,
    "max_pixels": 1000,
    "model": "other",
    "n_ctx": 16384,
    "n_batch": 2049,
    "n_ubatch": 256,
    "n_threads": 3,
    "n_gpu_layers": 7,
    "flash_attn": False,
    "type_k": "bf16",
    "type_v": "bf16",
    "decode_workers": 2,
    "decode_in": {"threads": "processes", "processes": "threads"},
    "workers": 4,
    "parallel": 5,
    "kv_unified": False,
    "cache_reuse": 77,
    "prefill_budget": 128,
    "prefill_delay": 9,
    "max_queue": 0,
    "chat_template": "chatml",
    "device": "CUDA1",
    "temperature": 0.1,
    "top_p": 0.5,
    "top_k": 10,
    "min_p": 0.2,
    "repeat_last_n": -1,
    "repeat_penalty": 1.2,
    "frequency_penalty": -0.5,
    "presence_penalty": 0.5,
    "max_tokens": 99,
}
BASES = [
    preset("prod", kind="classify"),
    preset("embedded", kind="classify").replace(flash_attn=True),
    preset("embedded", kind="chat"),
]


def test_parameters_are_attributes() -> None:
    balanced = preset("balanced")
    assert balanced.n_ctx == balanced.parameters.model_dump()["n_ctx"] == 32768
    assert "n_ctx" in dir(balanced)
    assert {"replace", "explain"} <= set(dir(balanced))


def test_an_unknown_attribute_is_an_attribute_error_with_the_nearest_name() -> None:
    with pytest.raises(AttributeError, match="did you mean n_ubatch"):
        _ = preset("balanced").ubatch
    assert not hasattr(preset("balanced"), "session_len")


def test_no_parameter_hides_behind_an_attribute_of_the_preset() -> None:
    own = set(dir(Preset)) | {field.name for field in dataclasses.fields(Preset)}
    for base in BASES:
        assert not own & set(type(base.parameters).model_fields)


def test_a_preset_cannot_be_assigned_to() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("balanced").name = "other"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("balanced").n_ctx = 1


@pytest.mark.parametrize("original", [*presets(), preset("balanced").replace(n_ctx=65536)])
def test_a_preset_survives_pickling_copying_and_json(original: Preset) -> None:
    for again in (
        pickle.loads(pickle.dumps(original)),
        copy.copy(original),
        copy.deepcopy(original),
        Preset.from_dict(json.loads(json.dumps(original.to_dict()))),
    ):
        assert again == original
        assert hash(again) == hash(original)
        assert again.fingerprint == original.fingerprint


def test_to_dict_holds_the_preset_as_plain_values() -> None:
    data = preset("balanced").to_dict()
    assert set(data) == {"name", "kind", "summary", "source", "fingerprint", "parameters"}
    assert data["parameters"]["n_ctx"] == 32768
    assert data["source"] == "built-in"


def test_from_dict_says_what_is_missing_or_not_legal() -> None:
    with pytest.raises(PresetError, match="kind, summary, source, parameters missing"):
        Preset.from_dict({"name": "x"})
    data = preset("balanced").to_dict()
    data["parameters"]["n_ctx"] = 0
    with pytest.raises(PresetError, match="n_ctx: 0 is not legal"):
        Preset.from_dict(data)


def test_repr_is_one_line_with_kind_name_source_model_and_fingerprint() -> None:
    balanced = preset("balanced").replace(model="a\nb")
    text = repr(balanced)
    assert "\n" not in text
    for part in ("chat", "'balanced'", "built-in, replaced: model", "llama.cpp", balanced.fingerprint):
        assert part in text


def test_replace_gives_a_new_preset_and_leaves_the_old_one() -> None:
    old = preset("balanced")
    new = old.replace(n_ctx=65536, parallel=4)
    assert (old.n_ctx, old.parallel) == (32768, 8)
    assert (new.n_ctx, new.parallel) == (65536, 4)
    assert new.name == old.name
    assert new != old


def test_replace_names_the_changed_fields_in_the_source() -> None:
    new = preset("balanced").replace(parallel=4).replace(n_ctx=65536, n_batch=4096)
    assert new.source == "built-in, replaced: n_ctx, parallel"
    assert new.replaced == ("n_ctx", "parallel")


def test_replacing_back_gives_the_preset_it_was() -> None:
    old = preset("balanced")
    assert old.replace(n_ctx=65536).replace(n_ctx=32768) == old
    assert old.replace() == old
    assert old.replaced == ()


def test_replace_takes_a_path_as_model() -> None:
    assert preset("balanced").replace(model=Path("some") / "model.gguf").model == str(Path("some/model.gguf"))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("n_ctxx", "n_ctx"),
        ("ctx_size", "n_ctx"),
        ("gpu_layers", "n_gpu_layers"),
        ("temp", "temperature"),
        ("n_parallel", "parallel"),
        ("cache_type_k", "type_k"),
        ("threads", "n_threads"),
        ("Parallel", "parallel"),
    ],
)
def test_an_unknown_field_is_answered_with_the_nearest_right_one(wrong: str, right: str) -> None:
    with pytest.raises(PresetError, match=rf"{wrong}: no such field; did you mean {right} \("):
        preset("balanced").replace(**{wrong: 1})


def test_a_field_like_no_other_is_answered_with_every_field() -> None:
    with pytest.raises(PresetError, match=r"the fields of a llama.cpp chat preset are backend, model, n_ctx"):
        preset("balanced").replace(zzzz=1)


def test_slots_of_their_own_have_a_token_each() -> None:
    small = {"n_ctx": 4, "n_batch": 4, "n_ubatch": 4}
    with pytest.raises(PresetError, match="parallel: 8 slots share out n_ctx, 4, and get no token each"):
        preset("balanced").replace(**small)
    assert preset("balanced").replace(**small, kv_unified=True).parallel == 8


def test_every_fault_is_in_one_error() -> None:
    with pytest.raises(PresetError) as caught:
        preset("balanced").replace(n_contex=1, parallel=0, temperature="hot", n_ubatch=8192)
    message = str(caught.value)
    assert "chat preset 'balanced': 4 problems" in message
    assert "n_contex: no such field" in message
    assert "parallel: 0 is not legal; legal: whole number from 1 to 254" in message
    assert "temperature: 'hot' is not legal; legal: number from 0" in message
    assert "n_ubatch: 8192 is more than n_batch, 4096" in message
    assert caught.value.__cause__ is not None


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(PresetError) as caught:
        preset("balanced").replace(n_ctx="9" * 10_000)
    assert len(str(caught.value)) < 300


def test_the_engine_cannot_be_replaced() -> None:
    with pytest.raises(PresetError, match="backend"):
        preset("prod", kind="classify").replace(backend="llama.cpp")
    with pytest.raises(PresetError, match=r"backend 'turbomind' is not legal.*'llama.cpp'"):
        preset("balanced").replace(backend="turbomind")


@pytest.mark.parametrize("base", BASES, ids=repr)
def test_changing_any_field_changes_the_fingerprint(base: Preset) -> None:
    fields = [name for name in type(base.parameters).model_fields if name != "backend"]
    seen = {base.fingerprint}
    for name in fields:
        other = OTHER_VALUES[name]
        value = other[getattr(base.parameters, name)] if isinstance(other, dict) else other
        seen.add(base.replace(**{name: value}).fingerprint)
    assert len(seen) == len(fields) + 1


def test_the_fingerprint_is_of_the_values_whatever_their_order_and_the_name() -> None:
    base = preset("balanced")
    one = base.replace(n_ctx=65536).replace(parallel=4)
    other = base.replace(parallel=4, n_ctx=65536)
    backwards = {**base.to_dict(), "name": "mine", "source": "here", "summary": ""}
    backwards["parameters"] = dict(reversed(base.to_dict()["parameters"].items()))
    assert one.fingerprint == other.fingerprint
    assert Preset.from_dict(backwards).fingerprint == base.fingerprint
    assert len(base.fingerprint) == 16
    assert int(base.fingerprint, 16) >= 0


def test_the_two_zeros_have_one_fingerprint() -> None:
    base = preset("balanced")
    assert base.replace(temperature=-0.0).fingerprint == base.replace(temperature=0.0).fingerprint


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=3)
    | st.sampled_from(["q8_0", "auto", "{labels}", "{image} {image}", "{0.__class__}", "a\x00b", "\ud800", 1j, {1}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@settings(deadline=None, max_examples=examples(300))
@given(data=st.data(), base=st.sampled_from([("prod", "classify"), ("embedded", "classify"), ("balanced", "chat")]))
def test_whatever_is_replaced_gives_a_preset_that_says_so_or_a_preset_error(data: st.DataObject, base: Any) -> None:
    before = preset(base[0], kind=base[1])
    fields = st.sampled_from([*before.to_dict()["parameters"], "no_such_field"])
    changes = data.draw(st.dictionaries(fields, VALUES, min_size=1, max_size=3))
    try:
        after = before.replace(**changes)
    except PresetError:
        return
    assert {name: getattr(after, name) for name in changes} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }
    assert after.explain().rows
    json.dumps(after.to_dict(), allow_nan=False)
