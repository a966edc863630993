"""JSON schemas without references and combinations: each becomes the alternatives it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from fastinfer.errors import SchemaError

__all__ = ["Branch", "Document", "same"]

Branch = dict[str, Any]

_MOST = 256
#: Keywords that hold data, in which "$ref" would be just a key.
_DATA = frozenset({"const", "enum", "default", "example", "examples"})
#: Keywords that hold schemas by names the user chose.
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_COMBINING = frozenset({"$ref", "allOf", "anyOf", "oneOf"})
_LARGER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_SMALLER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_BOTH = frozenset({"items", "additionalProperties", "propertyNames"})
_ANNOTATIONS = frozenset(
    {"$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description", "discriminator"}
    | {"example", "examples", "readOnly", "title", "writeOnly"}
)


class Document:
    """A JSON schema and what its references point to.

    Args:
        root: the whole schema.

    Raises:
        SchemaError: a reference points outside of the schema, or is of a kind not known here.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        for place, keyword, target in _references(root, "#"):
            if keyword != "$ref" or not (target == "#" or target.startswith("#/")):
                raise SchemaError(
                    f"The schema refers to {target!r} by {keyword} at {place}.",
                    hint="Only references into the schema itself are followed ('#/$defs/Name'); nothing is fetched.",
                )
            self._target(target, place)

    def branches(self, schema: Any, place: str, seen: tuple[str, ...] = ()) -> list[Branch]:
        """The alternatives of ``schema``: at least one, without ``$ref``, ``allOf``, ``anyOf``, ``oneOf``, annotations.

        What several parts of it demand of a value is put together where a grammar can use it; the rest is left to
        validation.

        Raises:
            SchemaError: no value satisfies it, it is nothing but a reference to itself, or it has too many
                alternatives.
        """
        if schema is True:
            return [{}]
        if schema is False:
            raise SchemaError(f"No value satisfies the schema at {place}.")
        if not isinstance(schema, dict):
            raise SchemaError(f"The schema at {place} is neither an object nor true nor false.")
        own = {key: value for key, value in schema.items() if key not in _COMBINING and key not in _ANNOTATIONS}
        found: list[Branch] = [own]
        reference = schema.get("$ref")
        if reference is not None:
            if reference in seen:
                raise SchemaError(f"The schema at {place} is a reference to itself.")
            found = self._each(found, self.branches(self._target(reference, place), reference, (*seen, reference)))
        for number, part in enumerate(schema.get("allOf", ())):
            found = self._each(found, self.branches(part, f"{place}/allOf/{number}", seen))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                found = self._each(found, self._union(schema[keyword], f"{place}/{keyword}", seen))
        if not found:
            raise SchemaError(f"No value satisfies the schema at {place}: its parts contradict each other.")
        if len(found) > _MOST:
            raise SchemaError(f"The schema at {place} has more than {_MOST} alternatives.")
        return found

    def _union(self, parts: list[Any], place: str, seen: tuple[str, ...]) -> list[Branch]:
        return [
            branch
            for number, part in enumerate(parts)
            if part is not False
            for branch in self.branches(part, f"{place}/{number}", seen)
        ]

    @staticmethod
    def _each(left: list[Branch], right: list[Branch]) -> list[Branch]:
        merged = (_merged(a, b) for a in left for b in right)
        return [branch for branch in merged if branch is not None][: _MOST + 1]

    def _target(self, reference: str, place: str) -> Any:
        found = self._root
        for step in reference.split("/")[1:]:
            step = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                raise SchemaError(f"The reference {reference!r} at {place} points to nothing.")
        return found


def _references(schema: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """(place, keyword, target) of every reference."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from _references(part, f"{place}/{number}")
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef", "$recursiveRef"):
                yield place, key, str(value)
            elif key in _NAMED and isinstance(value, dict):
                for name, part in value.items():
                    yield from _references(part, f"{place}/{key}/{name}")
            elif key not in _DATA:
                yield from _references(value, f"{place}/{key}")


def _merged(left: Branch, right: Branch) -> Branch | None:
    """What satisfies both, as far as a grammar can say it; None if their types or values exclude each other."""
    found = dict(left)
    for key, value in right.items():
        if key not in left:
            found[key] = value
        elif key in _LARGER or key in _SMALLER:
            found[key] = (max if key in _LARGER else min)(left[key], value)
        elif key == "type":
            found[key] = _types(left[key], value)
        elif key == "required":
            found[key] = [*left[key], *(name for name in value if name not in left[key])]
        elif key in ("properties", "patternProperties"):
            both = {name: {"allOf": [left[key][name], value[name]]} for name in left[key] if name in value}
            found[key] = {**left[key], **value, **both}
        elif key == "enum":
            found[key] = [item for item in left[key] if any(same(item, other) for other in value)]
        elif key == "const" and not same(left[key], value):
            return None
        elif key in _BOTH and left[key] != value:
            found[key] = False if False in (left[key], value) else {"allOf": [left[key], value]}
    if "const" in found and "enum" in found and not any(same(found["const"], item) for item in found["enum"]):
        return None
    return None if found.get("type") == [] or found.get("enum") == [] else found


def _types(left: Any, right: Any) -> list[str]:
    """The types in both; every integer is a number."""
    ours, theirs = ([names] if isinstance(names, str) else list(names) for names in (left, right))
    kept = [name for name in ours if name in theirs or (name == "integer" and "number" in theirs)]
    return kept + [name for name in theirs if name == "integer" and "number" in ours and name not in kept]


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are equal: unlike in Python, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)
