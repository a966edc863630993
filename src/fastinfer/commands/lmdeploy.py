"""A line for ``lmdeploy serve api_server`` to the values of a classification preset, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from fastinfer.commands.flags import MODEL_PATH, server_of
from fastinfer.commands.line import Line, Option
from fastinfer.commands.reading import Reader, Reading, number, text, whole
from fastinfer.commands.words import quoted
from fastinfer.errors import PresetError
from fastinfer.models.hub_name import HubName

__all__ = ["equivalent", "read", "written"]

#: The formats of the KV cache by the names that LMDeploy has for them (QuantPolicy in lmdeploy/messages.py).
_POLICIES: Final = {"none": 0, "int4": 4, "int8": 8, "fp8": 16, "fp8_e4m3": 16, "fp8_e5m2": 17, "turbo_quant": 42}
#: Levels of Python's logging that a preset has under another name.
_LEVELS: Final = {"FATAL": "CRITICAL", "WARN": "WARNING", "NOTSET": "DEBUG"}


def read(line: Line) -> Reading:
    """The values that a command gives a classification preset.

    Raises:
        PresetError: no model is named, or a value is not legal.
    """
    reader = Reader(line)
    reader.convert(_CONVERTED)
    _read_model(reader)
    return reader.finish(unless={})


def written(field: str, values: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The flags that give a field its value, each with its values as words of a shell.

    Args:
        field: a field that a flag of the server fills.
        values: every field of the preset.
    """
    value = values[field]
    if field == "model":
        name = HubName.parse(value)
        if name is None or name.revision is None:
            return [(MODEL_PATH, quoted(value))]
        return [(MODEL_PATH, quoted(value.removesuffix(f"@{name.revision}"))), ("--revision", quoted(name.revision))]
    flag = server_of("turbomind").spelling(field)
    if field == "trust_remote_code":
        return [(flag,)] if value else []
    if (field, value) == ("model_format", "auto"):
        return []
    return [(flag, quoted(str(value)))]


def equivalent(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a preset; the server has a word for each."""
    return dict(values)


def _policy(option: Option) -> int:
    name = option.value.lower()
    return _POLICIES[name] if name in _POLICIES else whole(option)


_CONVERTED: Final[Mapping[str, Callable[[Option], object]]] = {
    "backend": text,
    "max_concurrent_requests": whole,
    "log_level": lambda option: _LEVELS.get(option.value, option.value),
    "session_len": whole,
    "max_batch_size": whole,
    "cache_max_entry_count": number,
    "cache_block_seq_len": whole,
    "max_prefill_token_num": whole,
    "quant_policy": _policy,
    "vision_max_batch_size": whole,
    "dtype": text,
    "model_format": text,
    "trust_remote_code": lambda option: True,
    "tp": whole,
}


def _read_model(reader: Reader) -> None:
    model, revision = reader.last(MODEL_PATH), reader.last("--revision")
    if model is None:
        raise PresetError(
            "The command names no model, and the server does not start without one.",
            hint="Write it after api_server.",
        )
    name = model.value
    if revision is not None:
        name = f"{model.value}@{revision.value}"
        if HubName.parse(name) is None:
            name = model.value
            reader.remark(revision, "Only a model of the Hugging Face hub has a revision.")
    reader.put("model", name, model)
