"""Tools as callers pass them, OpenAI's dicts or Python functions, to dicts that are known to be right."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import Field, PydanticUserError, create_model

from fastinfer.errors import MessageError

from .values import checked_json, checked_text

__all__ = ["Tool", "normalise_tools"]

Tool: TypeAlias = Mapping[str, Any] | Callable[..., Any]
"""OpenAI's form of a tool, or a function with type hints."""

_FORM = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
_NAME = re.compile(r"[\w.:/-]{1,128}")
_ARGUMENT = re.compile(r"\s*\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*\S)")


def normalise_tools(tools: Sequence[Tool] | None) -> list[dict[str, Any]]:
    """Check tools and fill in what templates take for granted: a description, and parameters with properties.

    Args:
        tools: dicts in OpenAI's form, or functions, whose schema is made from signature and docstring (its first
            paragraph, and an ``Args:`` section). None and an empty list are no tools.

    Raises:
        MessageError: something else, or two tools of one name; says which tool and what is wrong.
    """
    if tools is None:
        return []
    if not isinstance(tools, Iterable) or isinstance(tools, (str, bytes, Mapping)):
        raise MessageError(f"Tools are of type {type(tools).__name__}.", hint=f"Pass a list of {_FORM} or functions.")
    done = []
    names: set[str] = set()
    for index, tool in enumerate(tools):
        where = f"Tool {index}"
        ready = _checked(tool, where) if isinstance(tool, Mapping) else _from_function(tool, where)
        name = ready["function"]["name"]
        if name in names:
            raise MessageError(f"{where} has the name {name!r} of another tool.", hint="Give each its own name.")
        names.add(name)
        done.append(ready)
    return done


def _checked(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type", "function") != "function" or not isinstance(function, Mapping):
        raise MessageError(f"{where} is not a function.", hint=f"Its form is {_FORM}.")
    ready: dict[str, Any] = checked_json(function, where)
    name = checked_text(ready.get("name"), f"{where}: its name")
    if not _NAME.fullmatch(name):
        raise MessageError(
            f"{where} has the name {name!r:.80}.", hint="A name has 1 to 128 letters, digits and any of _ - . : /"
        )
    description = ready.get("description")
    ready["description"] = "" if description is None else checked_text(description, f"{where}: its description")
    parameters = ready.get("parameters")
    if parameters is None:
        parameters = {"type": "object"}
    if not isinstance(parameters, dict) or not isinstance(parameters.setdefault("properties", {}), dict):
        raise MessageError(f"{where}: its parameters are no JSON schema of an object.", hint=f"Its form is {_FORM}.")
    ready["parameters"] = parameters
    return {"type": "function", "function": ready}


def _from_function(tool: object, where: str) -> dict[str, Any]:
    name = getattr(tool, "__name__", "")
    if not callable(tool) or not name:
        raise MessageError(f"{where} is of type {type(tool).__name__}.", hint=f"Pass {_FORM} or a function.")
    description, arguments = _docstring(tool)
    try:
        # Numbered fields with the names as aliases: pydantic keeps some names for itself.
        fields: dict[str, Any] = {
            f"field{number}": _field(parameter, arguments)
            for number, parameter in enumerate(inspect.signature(tool, eval_str=True).parameters.values())
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        model = create_model("Arguments", **fields)
        schema = model.model_json_schema()
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        raise MessageError(
            f"{where}, {name}: no schema can be made from its signature ({error}).",
            hint=f"Use type hints that JSON has a form for, or pass {_FORM}.",
        ) from error
    # Titles say again what the names say, and models pay for every token.
    schema = _without_titles(schema)
    return _checked(
        {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}, where
    )


def _field(parameter: inspect.Parameter, descriptions: Mapping[str, str]) -> tuple[Any, Any]:
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    default = ... if parameter.default is parameter.empty else parameter.default
    return annotation, Field(default, alias=parameter.name, description=descriptions.get(parameter.name))


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The first paragraph, and the arguments of a Google-style ``Args:`` section."""
    text = inspect.getdoc(function) or ""
    description = " ".join(text.split("\n\n")[0].split())
    section = re.search(r"^(?:Args|Arguments):\n((?:[ \t].*\n?|\n)*)", text, re.MULTILINE)
    arguments: dict[str, str] = {}
    last = ""
    indent = None
    for line in section[1].splitlines() if section else ():
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        if depth <= indent and (found := _ARGUMENT.fullmatch(line.rstrip())):
            last = found[1]
            arguments[last] = found[2].strip()
        elif last and line.strip():
            arguments[last] += " " + line.strip()
    return description, arguments


def _without_titles(schema: Any, *, names: bool = False) -> Any:
    """A schema without the titles that pydantic gives everything.

    Args:
        schema: any part of it.
        names: the keys are names of properties, where "title" is one like others.
    """
    if isinstance(schema, dict):
        return {
            key: _without_titles(value, names=key in ("properties", "$defs") and not names)
            for key, value in schema.items()
            if names or key != "title"
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
