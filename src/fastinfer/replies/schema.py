"""What a reply has to look like: JSON schemas and pydantic types, as a grammar to write by and a way to read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import isroutine
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticOmit

from fastinfer.errors import SchemaError
from fastinfer.replies.calls import BadCall, read_json
from fastinfer.replies.grammar import schema_to_gbnf

__all__ = ["CompiledSchema", "check_gbnf", "compile_schema"]

# llama.cpp follows rules and parentheses by recursion: more of either than fits its stack would end the process.
_GBNF_BYTES = 200_000
_GBNF_DEPTH = 200


@dataclass(frozen=True, slots=True)
class CompiledSchema:
    """A schema, ready for use.

    Attributes:
        gbnf: grammar for llama.cpp, rule ``root``.
        json_schema: the JSON schema, for engines that take that.
    """

    gbnf: str
    json_schema: dict[str, Any]
    _read: Callable[[str], Any]

    def parse(self, text: str) -> Any:
        """The reply as what was asked for: a pydantic instance, or plain data for a schema that is a dict.

        Raises:
            SchemaError: the text is not JSON, or does not follow the schema.
        """
        return self._read(text)


def compile_schema(schema: Any) -> CompiledSchema:
    """Prepare a schema.

    Args:
        schema: a pydantic model, dataclass, TypedDict or any other type that pydantic understands; or a JSON schema
            as a dict, also in OpenAI's wrapping: ``{"type": "json_schema", "json_schema": {"schema": ...}}`` or
            ``{"type": "json_object"}``. One that was prepared before is ready as it is.

    Raises:
        SchemaError: it is not a schema, nothing can satisfy it, it refers outside of itself (nothing is ever
            fetched), or it is too large. The message names the place.
    """
    if isinstance(schema, CompiledSchema):
        return schema
    if isinstance(schema, Mapping):
        return _from_dict(_unwrapped(dict(schema)))
    # Pydantic also takes functions, and would call them.
    if schema is None or isinstance(schema, bool | str | bytes | int | float | list | tuple) or isroutine(schema):
        raise SchemaError(
            f"{schema!r} is not a schema.", hint="Give a pydantic model, another type, or a JSON schema as a dict."
        )
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        json_schema = adapter.json_schema()
    except (PydanticUserError, PydanticOmit, TypeError, NameError, RecursionError) as error:
        raise SchemaError(
            f"{schema!r} has no JSON schema: {_first_line(error)}", hint="Use types that can be written as JSON."
        ) from error

    def read(text: str) -> Any:
        try:
            return adapter.validate_json(text.strip())
        except ValidationError as error:
            raise SchemaError(f"The reply does not follow the schema: {_reason(error)}") from error
        except UnicodeEncodeError as error:
            raise SchemaError("The reply holds half a surrogate pair.") from error

    return CompiledSchema(schema_to_gbnf(json_schema), json_schema, read)


def _unwrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema inside OpenAI's ``response_format``, or the dict itself."""
    kind = schema.get("type")
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        return schema
    inner = schema.get("json_schema", schema)
    found = inner.get("schema") if isinstance(inner, Mapping) else None
    if not isinstance(found, Mapping):
        raise SchemaError(
            'The response format has no "schema".', hint='{"json_schema": {"schema": {...}}} is expected.'
        )
    return dict(found)


def _from_dict(schema: dict[str, Any]) -> CompiledSchema:
    # Loaded here, since it takes a tenth of a second that those who use pydantic models need not spend.
    jsonschema: Any = importlib.import_module("jsonschema")
    registry: Any = importlib.import_module("referencing").Registry()  # an empty one: nothing is ever fetched
    try:
        schema = json.loads(json.dumps(schema, allow_nan=False))  # a copy of our own, and nothing but JSON
        kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        validator: Any = kind(schema, registry=registry, format_checker=kind.FORMAT_CHECKER)
    except jsonschema.SchemaError as error:
        place = "#" + "".join(f"/{step}" for step in error.absolute_path)
        raise SchemaError(f"The schema is wrong at {place}: {error.message}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"The schema is not JSON: {error}") from error

    def read(text: str) -> Any:
        try:
            value = read_json(text.strip())
        except BadCall as error:
            raise SchemaError(f"The reply is not JSON: {error}") from error.__cause__
        try:
            wrong = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except RecursionError as error:
            raise SchemaError("The reply is nested too deeply to be checked.") from error
        if wrong is not None:
            raise SchemaError(f"The reply does not follow the schema at {wrong.json_path}: {wrong.message}") from wrong
        return value

    return CompiledSchema(schema_to_gbnf(schema), schema, read)


def check_gbnf(text: str, vocab: Any) -> None:
    """Make sure that llama.cpp can use a grammar that a user wrote.

    Args:
        text: GBNF with a rule ``root``.
        vocab: llama.cpp's vocabulary (``llama_model_get_vocab``); grammars may name its tokens.

    Raises:
        SchemaError: it cannot be parsed, lacks ``root``, is left-recursive, or is too large or nested too deeply to be
            given to native code. llama.cpp writes the reason to standard error.
    """
    data = text.encode("utf-8", "replace")
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if not text.strip():  # llama.cpp takes it for no grammar at all
        raise SchemaError("The grammar is empty.")
    if "\0" in text or len(data) > _GBNF_BYTES or deepest > _GBNF_DEPTH:
        raise SchemaError(
            f"The grammar holds a zero character, more than {_GBNF_BYTES:,} bytes or more than {_GBNF_DEPTH} open "
            "parentheses."
        )
    from fastinfer.engines.llama.binding import llama  # here, so that schemas do not load llama.cpp

    sampler = llama.llama_sampler_init_grammar(vocab, data, b"root")
    if not sampler:
        raise SchemaError(
            "llama.cpp cannot parse the grammar.",
            hint="Standard error and the logger 'fastinfer.llama' say why: a syntax error, a rule that is not defined, "
            "no rule 'root', or a rule that begins with itself.",
        )
    llama.llama_sampler_free(sampler)


def _reason(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{first['msg']} at {place}{more}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
