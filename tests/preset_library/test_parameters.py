from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fastinfer.errors import PresetError
from fastinfer.preset_library import Kind, Preset, advice, field_docs, preset
from fastinfer.preset_library.schema import PARAMETER_CLASSES

BASES: dict[tuple[Kind, str], Preset] = {}
for _kind, _backend in PARAMETER_CLASSES:
    BASES[_kind, _backend] = preset("prod" if _backend == "turbomind" else "embedded", kind=_kind)
    if _backend == "llama.cpp":
        BASES[_kind, _backend] = BASES[_kind, _backend].replace(flash_attn=True)

FIELDS = [(key, name) for key, base in BASES.items() for name in type(base.parameters).model_fields]
FREE = {"n_ctx", "n_batch", "n_ubatch"}  # tied to each other by rules of their own


def numeric_fields() -> list[Any]:
    found = [(key, name) for key, name in FIELDS if re.match("whole number|number|multiple", legal(key, name))]
    return [pytest.param(key, name, id=f"{key[0]}-{key[1]}-{name}") for key, name in found]


def legal(key: tuple[Kind, str], name: str) -> str:
    return field_docs(*key)[name].legal.partition(";")[0]


def accepts(key: tuple[Kind, str], name: str, value: object) -> bool:
    changes: dict[str, Any] = {name: value}
    if name in FREE:  # move its partners out of the way
        changes = {**dict.fromkeys(FREE, value), **changes}
    try:
        BASES[key].replace(**changes)
    except PresetError:
        return False
    return True


def bounds(text: str) -> tuple[float, float, bool, bool]:
    """Lowest and highest value of a documented range, and whether each of them is itself legal."""
    number = r"(-?[\d.]+(?:\^31-1)?)"
    low = re.search(f"(from|above) {number}", text)
    high = re.search(f"(to|below) {number}", text)
    assert low is not None
    top = float("inf") if high is None else 2**31 - 1 if high[2] == "2^31-1" else float(high[2])
    return float(low[2]), top, low[1] == "from", high is not None and high[1] == "to"


@pytest.mark.parametrize(("key", "name"), numeric_fields())
@settings(deadline=None)
@given(data=st.data())
def test_a_number_is_accepted_exactly_within_its_documented_range(key: Any, name: str, data: st.DataObject) -> None:
    text = legal(key, name)
    low, high, low_is_legal, high_is_legal = bounds(text)
    if text.startswith("number"):
        ends = st.sampled_from([low, low - 1e-9, low + 1e-9, high, high + 1e-9])
        value = data.draw(st.one_of(st.floats(), st.floats(low - 1, min(high, 100) + 1), ends))
        inside = (low < value or (low_is_legal and low == value)) and (
            value < high or (high_is_legal and value == high)
        )
    else:
        step = int(match[1]) if (match := re.match(r"multiple of (\d+)", text)) else 1
        ends = st.sampled_from([int(low) - step, int(low), int(low) + step, int(high), int(high) + 1])
        value = data.draw(st.one_of(st.integers(), st.integers(0, 100).map(lambda n: n * step), ends))
        inside = low <= value <= high and value % step == 0
    assert accepts(key, name, value) == inside


@pytest.mark.parametrize(("key", "name"), FIELDS)
def test_a_choice_is_accepted_exactly_when_it_is_documented(key: Any, name: str) -> None:
    annotation = PARAMETER_CLASSES[key].model_fields[name].annotation
    if get_origin(annotation) is not Literal:
        return
    choices = get_args(annotation)
    # The one pair rule among choices, quantised values without flash attention, is off: the bases have it on.
    assert all(accepts(key, name, choice) for choice in choices)
    assert all(repr(choice) in legal(key, name) for choice in choices)
    assert not any(accepts(key, name, other) for other in ("", "q9", 3, 4.0, True, False, None, choices))


@pytest.mark.parametrize(("key", "name"), FIELDS)
def test_no_field_converts_from_another_type(key: Any, name: str) -> None:
    value = getattr(BASES[key], name)
    wrong: list[object] = [None, [value], {"value": value}]
    if isinstance(value, str):
        wrong += [b"text", 1, True]
    else:
        wrong += [str(value), "1"]
    if isinstance(value, bool):
        wrong += [0, 1, 1.0]
    elif isinstance(value, int):
        wrong += [True, float(value), value + 0.5]
    elif isinstance(value, float):
        wrong += [True, float("nan"), float("inf")]
    assert not any(accepts(key, name, other) for other in wrong)


def test_a_whole_number_serves_where_a_number_is_asked() -> None:
    cold = preset("balanced").replace(temperature=1)
    assert isinstance(cold.temperature, float)
    assert cold.fingerprint == preset("balanced").replace(temperature=1.0).fingerprint


@pytest.mark.parametrize("key", list(BASES))
def test_every_field_has_documentation_and_every_documented_field_exists(key: Any) -> None:
    docs = field_docs(*key)
    assert list(docs) == list(PARAMETER_CLASSES[key].model_fields)
    for name, doc in docs.items():
        assert doc.name == name
        for sentence in (doc.effect, doc.cost, doc.when_to_change):
            assert sentence.endswith(".")
        assert doc.legal
        if type(getattr(BASES[key], name)) is int:
            assert doc.unit


def test_the_table_documents_no_field_twice_and_none_that_does_not_exist() -> None:
    from fastinfer.preset_library.fields import _table

    entries = [(of, entry["name"]) for entry in _table()["field"] for of in entry["of"]]
    assert sorted(entries) == sorted(("/".join(key), name) for key, name in FIELDS)


@pytest.mark.parametrize("key", list(BASES))
def test_advice_names_fields_and_legal_values(key: Any) -> None:
    for item in advice(*key):
        for step in item.steps:
            assert step.values
            assert all(accepts(key, step.field, value) for value in step.values), step


def test_the_advice_for_chat_out_of_memory_keeps_its_order() -> None:
    (item,) = [item for item in advice("chat", "llama.cpp") if item.symptom == "Out of memory"]
    assert [(step.field, step.values) for step in item.steps] == [
        ("n_ubatch", (2048, 1024)),
        ("parallel", (8, 6, 4)),
        ("n_ctx", (32768, 16384)),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_ubatch": 8192}, "n_ubatch: 8192 is more than n_batch, 4096"),
        ({"n_ctx": 2048}, "n_batch: 4096 is more than n_ctx, 2048"),
        ({"flash_attn": False}, "type_v: 'q8_0' is quantised and needs flash_attn"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PresetError, match=said):
        preset("balanced").replace(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_image_pixels": 2000, "max_image_pixels": 1000}, "min_image_pixels: 2000 is more than max_image_pixels"),
        ({"tp": 2, "devices": [0]}, "devices: its length, 1, is no multiple of tp, 2; name 2 GPUs for each"),
        ({"tp": 2, "devices": (0, 1, 2)}, "devices: its length, 3, is no multiple of tp, 2"),
    ],
)
def test_fields_of_turbomind_that_contradict_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PresetError, match=re.escape(said)):
        preset("prod", kind="classify").replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_image_pixels": 1000, "max_image_pixels": 1000},
        {"min_image_pixels": 1000},
        {"max_image_pixels": 1000},
        {"tp": 2},
        {"tp": 2, "devices": [3, 1]},
        {"tp": 2, "devices": (0, 1, 2, 3)},
        {"devices": [0, 1, 2]},
    ],
)
def test_fields_of_turbomind_that_agree_are_accepted(changes: dict[str, Any]) -> None:
    changed = preset("prod", kind="classify").replace(**changes).parameters.model_dump()
    assert {name: changed[name] for name in changes} == {
        name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()
    }


@pytest.mark.parametrize("devices", [[0, 0], [-1], [1.0], [True], ["0"], "0", 0, None, {0}, [2**31], [[0]]])
def test_devices_are_different_numbers_from_zero(devices: object) -> None:
    with pytest.raises(PresetError, match=r"devices: .* legal: a list of different whole numbers from 0"):
        preset("prod", kind="classify").replace(devices=devices)


def test_devices_are_frozen_and_shown_as_a_list() -> None:
    several = preset("prod", kind="classify").replace(devices=[1, 0])
    assert several.devices == (1, 0)
    assert several.to_dict()["parameters"]["devices"] == [1, 0]
    assert several == preset("prod", kind="classify").replace(devices=(1, 0))
    assert several.fingerprint != preset("prod", kind="classify").replace(devices=[0, 1]).fingerprint
    (row,) = [row for row in several.explain().rows if row.field == "devices"]
    assert (row.value, row.documented) == ([1, 0], [])
    assert "devices = [1, 0] (documented: [])" in str(several.explain())


def test_a_quantised_key_cache_needs_no_flash_attention() -> None:
    assert preset("balanced").replace(flash_attn=False, type_v="f16").type_k == "q8_0"


@pytest.mark.parametrize(
    "prompt",
    [
        "{label}",
        "{}",
        "{0}",
        "{labels!r}",
        "{labels} {more}",
        "a {",
        "}",
        "{{labels}}",
        "{image} {image}",
        "{images}",
        "",
    ],
)
def test_a_prompt_takes_no_brace_but_labels_and_image(prompt: str) -> None:
    with pytest.raises(PresetError, match=r"prompt: .* is not legal; legal: text, not empty; \{labels\} becomes"):
        preset("embedded", kind="classify").replace(prompt=prompt)


def test_a_prompt_may_name_the_labels_anywhere_or_nowhere() -> None:
    base = preset("embedded", kind="classify")
    assert base.replace(prompt="Of {labels}, which? {labels}").prompt == "Of {labels}, which? {labels}"
    assert base.replace(prompt="Which?").prompt == "Which?"


def test_a_prompt_may_say_where_the_image_goes() -> None:
    base = preset("embedded", kind="classify")
    assert base.replace(prompt="One of {labels}: {image}").prompt == "One of {labels}: {image}"
    assert base.replace(open_prompt="Look: {image} What is it?").open_prompt == "Look: {image} What is it?"


def test_an_open_prompt_has_no_labels_to_name() -> None:
    with pytest.raises(PresetError, match=r"open_prompt: .* any other brace is refused"):
        preset("embedded", kind="classify").replace(open_prompt="One of {labels}?")


@pytest.mark.parametrize(
    ("device", "is_legal"),
    [
        ("CUDA0", True),
        ("CPU", True),
        ("Vulkan1", True),
        ("", False),
        ("0", False),
        ("CUDA 0", False),
        ("CUDA0\n", False),
    ],
)
def test_a_device_is_a_word_and_perhaps_a_number(device: str, is_legal: bool) -> None:
    assert accepts(("chat", "llama.cpp"), "device", device) == is_legal


def test_parameters_cannot_be_assigned_or_made_with_unknown_fields() -> None:
    parameters = preset("balanced").parameters
    with pytest.raises(ValidationError, match="frozen"):
        parameters.n_ctx = 1  # type: ignore[misc, union-attr]
    with pytest.raises(ValidationError, match="n_parallel"):
        type(parameters)(**parameters.model_dump(), n_parallel=4)


def test_parameters_made_directly_keep_the_rules_between_fields() -> None:
    parameters = preset("balanced").parameters
    with pytest.raises(ValidationError, match="n_batch: 4096 is more than n_ctx, 16"):
        type(parameters)(**{**parameters.model_dump(), "n_ctx": 16})
