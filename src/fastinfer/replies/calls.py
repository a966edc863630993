"""Tool calls as models write them, and what they mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastinfer.replies.formats import ToolFormat

__all__ = ["BadCall", "ToolCall", "ToolTypes", "UnfinishedCall", "read_call", "read_json"]

_XML_CALL = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
# A value may itself hold "</parameter>", as code about tool calls does: it ends where another parameter or the end of
# the call follows.
_XML_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>(.*?)</parameter>\s*(?=<parameter=|\Z)", re.DOTALL)
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
# Seed-OSS's template shows the model earlier calls with Python's spelling.
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that the model asks for.

    Attributes:
        id: ``"call_0"``, ``"call_1"`` and so on within a reply.
        name: the tool's name, as the model wrote it; it need not be a tool that exists.
        arguments: by name; checked against the tool's schema by nobody yet.
        raw: the reply's text of the call, its marks included.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    raw: str


class BadCall(Exception):  # noqa: N818 - control flow inside this package, never seen by users
    """The text between the marks is not a call."""


class UnfinishedCall(BadCall):
    """The text is the beginning of a call: what looked like its closing mark is inside one of its values."""


class ToolTypes:
    """The types of the tools' parameters, for formats that write every value as plain text.

    Args:
        tools: OpenAI tool dicts, ``{"type": "function", "function": {"name": ..., "parameters": {...}}}``; entries of
            another shape are passed over.
    """

    __slots__ = ("_types",)

    def __init__(self, tools: Iterable[Mapping[str, Any]] = ()) -> None:
        self._types: dict[tuple[str, str], tuple[str, ...]] = {}
        for tool in tools:
            function = _mapping(_mapping(tool).get("function", tool))
            for name, schema in _mapping(_mapping(function.get("parameters")).get("properties")).items():
                self._types[str(function.get("name")), str(name)] = _types(schema)

    def value(self, tool: str, parameter: str, text: str) -> Any:
        """``text`` as the schema's type where it can be read as that, else as it is."""
        types = self._types.get((tool, parameter), ("string",))
        if "string" in types:
            return text
        stripped = text.strip()
        try:
            value = read_json(_PYTHON_WORDS.get(stripped, stripped))
        except BadCall:
            return text
        if isinstance(value, float) and value.is_integer() and "integer" in types:
            value = int(value)
        fits = any(isinstance(value, _PYTHON_TYPES[name]) for name in types if name in _PYTHON_TYPES)
        if isinstance(value, bool):  # which Python counts among the integers
            fits = "boolean" in types
        return value if fits else text


def read_json(text: str) -> Any:
    """JSON data; of keys that occur twice the last counts.

    Raises:
        UnfinishedCall: the text ends inside a string.
        BadCall: it is not JSON, nested too deeply, or holds a number that no Python number stands for.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        unfinished = error.msg.startswith("Unterminated string")
        raise (UnfinishedCall if unfinished else BadCall)(str(error)) from error
    except (ValueError, RecursionError) as error:  # integers of more than some thousand digits are a ValueError
        raise BadCall(str(error)) from error


def read_call(body: str, form: ToolFormat, types: ToolTypes) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the call written between the marks.

    Raises:
        UnfinishedCall: the body is only the beginning of a call.
        BadCall: it is no call.
    """
    if form in ("seed_oss", "qwen_xml"):
        return _xml(body, types, trim=form == "qwen_xml")
    return _named(read_json(body.strip()))


def _named(value: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise BadCall("not an object")
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # OpenAI's way: the arguments' JSON as a string
        arguments = read_json(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise BadCall("no name, or no object of arguments")
    return name, arguments


def _xml(body: str, types: ToolTypes, *, trim: bool) -> tuple[str, dict[str, Any]]:
    call = _XML_CALL.fullmatch(body)
    if call is None:
        begun = body.lstrip().startswith("<function=") and "</function>" not in body
        raise (UnfinishedCall if begun else BadCall)("no function")
    name, rest = call[1].strip(), call[2]
    arguments: dict[str, Any] = {}
    place = 0
    while match := _XML_PARAMETER.match(rest, place):
        key, value = match[1].strip(), match[2]
        if trim:  # Qwen's template puts each value on lines of its own
            value = value[value.startswith("\n") :]
            value = value[: len(value) - value.endswith("\n")]
        arguments[key] = types.value(name, key, value)
        place = match.end()
    if not name or rest[place:].strip():
        raise BadCall("no name, or text between the parameters")
    return name, arguments


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond a float")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _types(schema: Any) -> tuple[str, ...]:
    """The JSON types a parameter may have; ``("string",)`` where the schema does not say."""
    schema = _mapping(schema)
    named = schema.get("type")
    if isinstance(named, str):
        return (named,)
    if isinstance(named, list):
        return tuple(str(name) for name in named)
    branches = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(branches, list) and branches:
        return tuple(name for branch in branches for name in _types(branch))
    return ("string",)
