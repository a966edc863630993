"""From plain values to validated parameters, with every fault of a preset in one error."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import get_args

from pydantic import ValidationError

from fastinfer.errors import PresetError
from fastinfer.preset_library.fields import field_docs
from fastinfer.preset_library.schema import PARAMETER_CLASSES, Kind, Parameters, conflicts

__all__ = ["check_kind", "nearest", "parse_parameters"]


def parse_parameters(kind: Kind, values: Mapping[str, object], *, where: str) -> Parameters:
    """Validate the values of a preset.

    Args:
        kind: the kind of preset.
        values: value by field, ``backend`` among them.
        where: the preset or file and table the values are from; begins the error message.

    Raises:
        PresetError: names each unknown, missing or illegal field with what is legal, all in one message.
    """
    backend = values.get("backend")
    engines = [engine for known, engine in PARAMETER_CLASSES if known == kind]
    if backend not in engines:
        said = f"backend {reprlib.repr(backend)} is not legal" if "backend" in values else "no backend given"
        raise PresetError(f"{where}: {said}.", hint=f"For kind {kind!r} it is {_either(engines)}.")
    try:
        return PARAMETER_CLASSES[kind, str(backend)].model_validate(dict(values))
    except ValidationError as error:
        problems = _problems(kind, str(backend), values, error)
        count = f"{len(problems)} problems:" if len(problems) > 1 else "1 problem:"
        raise PresetError("\n  ".join([f"{where}: {count}", *problems])) from error


def check_kind(kind: str) -> Kind:
    """Return ``kind`` when it is one.

    Raises:
        PresetError: it is neither ``"classify"`` nor ``"chat"``.
    """
    for known in get_args(Kind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    raise PresetError(f"There is no kind of preset {kind!r}.", hint="The kinds are 'classify' and 'chat'.")


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> list[str]:
    """Up to three known names that are spelt most like ``name``, the nearest first.

    Args:
        name: what was asked for.
        known: the names there are.
        likeness: the least likeness, from 0 to 1, that a name must have.
    """
    return difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=likeness)


def _problems(kind: Kind, backend: str, values: Mapping[str, object], error: ValidationError) -> list[str]:
    docs = field_docs(kind, backend)
    lines: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        if not detail["loc"]:
            continue  # a rule between fields; conflicts() below has it by field
        field = str(detail["loc"][0])
        if field not in docs:
            lines[field] = f"{field}: no such field; {_right_key(field, kind, backend)}"
        elif detail["type"] == "missing":
            lines[field] = f"{field}: missing; legal: {docs[field].legal}"
        else:
            lines[field] = f"{field}: {reprlib.repr(values[field])} is not legal; legal: {docs[field].legal}"
    sound = {field: value for field, value in values.items() if field not in lines}
    lines.update({field: f"{field}: {what}" for field, what in conflicts(sound).items()})
    return list(lines.values())


def _right_key(field: str, kind: Kind, backend: str) -> str:
    docs = field_docs(kind, backend)
    # A server's option is a likely guess for a field's name: ctx_size for n_ctx, temp for temperature.
    spellings = {name: name for name in docs}
    for name, doc in docs.items():
        for option in doc.flag.replace(",", " ").split():
            if option.startswith("--"):
                spellings.setdefault(option.lstrip("-").replace("-", "_"), name)
    matches = nearest(field.replace("-", "_"), spellings, likeness=0.5)
    if not matches:
        return f"the fields of a {backend} {kind} preset are {', '.join(docs)}"
    right = spellings[matches[0]]
    return f"did you mean {right} ({docs[right].legal})?"


def _either(values: Iterable[str]) -> str:
    return " or ".join(repr(value) for value in values)
