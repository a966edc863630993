"""What every preset field means: one documentation, read by ``explain()``, the README's tables and notebooks.

The prose is in ``fields.toml``, and in ``translation`` for other languages. The legal range is not: it is read off the
pydantic models, so that what is documented is what is enforced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from fastinfer.preset_library.schema import INT32_MAX, PARAMETER_CLASSES, Kind, Parameters
from fastinfer.preset_library.translation import Language, in_language, said
from fastinfer.toml_file import read_toml

__all__ = ["Advice", "FieldDoc", "Step", "advice", "field_docs", "legal_range"]

_TABLE: Final = Path(__file__).with_name("fields.toml")


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """The documentation of one field.

    Attributes:
        name: the field.
        effect: what it does.
        cost: what a larger or different value takes: memory, time, accuracy.
        when_to_change: when another value than the preset's is right, and which.
        unit: what the value counts; empty for names, switches and text.
        legal: the values that are accepted, and what special values mean.
        flag: the option of ``lmdeploy serve api_server`` or ``llama-server`` that it stands for; empty where the
            server has none.
    """

    name: str
    effect: str
    cost: str
    when_to_change: str
    unit: str
    legal: str
    flag: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an advice: the values of a field to go through, in order."""

    field: str
    values: tuple[int | float | str | bool, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a symptom that concerns several fields.

    Attributes:
        symptom: what is seen, for example ``"out of memory"``.
        text: what to do.
        steps: the same as data, to be tried in order; empty where the advice names no values.
    """

    symptom: str
    text: str
    steps: tuple[Step, ...]


def field_docs(kind: Kind, backend: str, lang: Language = "en") -> dict[str, FieldDoc]:
    """The documentation of every field of a kind of preset, by name, in the order of the preset.

    Args:
        kind: ``"classify"`` or ``"chat"``.
        backend: ``"turbomind"`` or ``"llama.cpp"``.
        lang: the language of the prose.

    Raises:
        KeyError: there is no such pair.
    """
    return _field_docs(PARAMETER_CLASSES[kind, backend], lang).copy()


def advice(kind: Kind, backend: str, lang: Language = "en") -> tuple[Advice, ...]:
    """What to do about symptoms that concern several fields, the most frequent first."""
    return tuple(
        Advice(
            symptom=entry["symptom"],
            text=entry["text"],
            steps=tuple(Step(step["field"], tuple(step["values"])) for step in entry.get("steps", ())),
        )
        for entry in (in_language(english, lang) for english in _table()["advice"])
        if f"{kind}/{backend}" in entry["of"]
    )


@cache
def legal_range(parameters: type[Parameters], field: str, lang: Language = "en") -> str:
    """The values that a field accepts, in words, read off the model that enforces them."""
    info = parameters.model_fields[field]
    if info.description is not None:
        return said(info.description, lang)
    if get_origin(info.annotation) is Literal:
        return _choice([repr(value) for value in get_args(info.annotation)], said("or", lang))
    if info.annotation is bool:
        return said("true or false", lang)
    if info.annotation is str:
        return said("text, not empty", lang)
    return _number_range(info, lang)


def _number_range(info: FieldInfo, lang: Language) -> str:
    bounds: dict[str, Any] = {}
    for constraint in info.metadata:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if hasattr(constraint, name):
                bounds[name] = getattr(constraint, name)
    words = [said("whole number" if info.annotation is int else "number", lang)]
    if "multiple_of" in bounds:
        words = [f"{said('multiple of', lang)} {bounds['multiple_of']}"]
    if "ge" in bounds:
        words.append(f"{said('from', lang)} {bounds['ge']}")
    if "gt" in bounds:
        words.append(f"{said('above', lang)} {bounds['gt']}")
    if "le" in bounds:
        words.append(f"{said('to', lang)} {'2^31-1' if bounds['le'] == INT32_MAX else bounds['le']}")
    if "lt" in bounds:
        words.append(f"{said('and below' if bounds.keys() & {'ge', 'gt'} else 'below', lang)} {bounds['lt']}")
    return " ".join(words)


def _choice(values: list[str], last: str) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} {last} {values[-1]}"


@cache
def _table() -> dict[str, Any]:
    return read_toml(_TABLE)


@cache
def _field_docs(parameters: type[Parameters], lang: Language) -> dict[str, FieldDoc]:
    key = next("/".join(pair) for pair, cls in PARAMETER_CLASSES.items() if cls is parameters)
    entries = {entry["name"]: in_language(entry, lang) for entry in _table()["field"] if key in entry["of"]}
    return {name: _doc(name, entries[name], legal_range(parameters, name, lang)) for name in parameters.model_fields}


def _doc(name: str, entry: dict[str, Any], legal: str) -> FieldDoc:
    return FieldDoc(
        name=name,
        effect=entry["effect"],
        cost=entry["cost"],
        when_to_change=entry["when_to_change"],
        unit=entry.get("unit", ""),
        legal=f"{legal}; {entry['special']}" if "special" in entry else legal,
        flag=entry.get("flag", ""),
    )
