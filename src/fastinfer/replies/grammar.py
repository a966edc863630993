"""JSON schemas as GBNF grammars, which keep a model to the schema while it writes.

A grammar is a little narrower than its schema where that helps a model: properties come in the order in which they are
declared, properties that are not declared need ``additionalProperties``, tuples are complete, white space is bounded.
It is wider where it has no words for a constraint (``multipleOf``, ``uniqueItems``, ``not``, lookaround in patterns and
others): that is left to validation.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from fastinfer.errors import SchemaError
from fastinfer.replies.branches import Branch, Document, same
from fastinfer.replies.gbnf import BASICS, integers, literal, numbers, other_keys, repeat
from fastinfer.replies.patterns import UnsupportedPatternError, pattern_rule

__all__ = ["schema_to_gbnf"]

_MOST_RULES = 4000
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
#: Which type a keyword is about, for schemas that do not name one.
_ABOUT = {
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties", "propertyNames"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"), "array"),
    **dict.fromkeys(("pattern", "format", "minLength", "maxLength"), "string"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
}


def schema_to_gbnf(schema: dict[str, Any]) -> str:
    """A grammar, rule ``root`` first, for JSON that follows ``schema`` (well-formed; draft 2020-12 or older).

    Raises:
        SchemaError: no value can follow it, it refers outside of itself, or it is too large; the message names the
            place as a JSON pointer.
    """
    try:
        return _Writer(Document(schema)).write(schema)
    except RecursionError as error:
        raise SchemaError("The schema is nested too deeply.") from error


class _Writer:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}  # rules of schemas that were met before, which is what ends recursion

    def write(self, schema: dict[str, Any]) -> str:
        self._rule(schema, "#", "root")
        return "\n".join(f"{name} ::= {body}" for name, body in self._rules.items()) + "\n"

    def _basic(self, name: str) -> str:
        if name not in self._rules:
            body, needed = BASICS[name]
            self._rules[name] = body
            for other in needed:
                self._basic(other)
        return name

    def _reserve(self, hint: str) -> str:
        name = base = re.sub(r"[^a-zA-Z0-9]+", "-", hint).strip("-") or "x"
        number = 1
        while name in self._rules or name in BASICS:
            number += 1
            name = f"{base}-{number}"
        if len(self._rules) > _MOST_RULES:
            raise SchemaError(f"The grammar of the schema has more than {_MOST_RULES} rules.")
        self._rules[name] = ""
        return name

    def _add(self, hint: str, body: str) -> str:
        name = self._reserve(hint)
        self._rules[name] = body
        return name

    def _rule(self, schema: Any, place: str, hint: str) -> str:
        """The name of the rule for ``schema``."""
        branches = self._document.branches(schema, place)
        key = json.dumps(branches, default=str)
        if key not in self._names:
            if branches == [{}] and hint != "root":
                return self._basic("value")
            self._names[key] = name = self._reserve(hint)
            parts = [body for branch in branches for body in self._bodies(branch, place, hint)]
            if not parts:
                raise SchemaError(f"No value satisfies the schema at {place}.")
            self._rules[name] = " | ".join(dict.fromkeys(parts))
        return self._names[key]

    def _bodies(self, branch: Branch, place: str, hint: str) -> list[str]:
        """The alternatives of a branch, one for each type it allows."""
        named = branch.get("type")
        if "const" in branch or "enum" in branch:
            values = [branch["const"]] if "const" in branch else branch["enum"]
            return [literal(_json(value, place)) for value in values if _is(value, named)]
        if named is None:
            kinds = sorted({_ABOUT[key] for key in branch if key in _ABOUT}, key=_TYPES.index)
            if not kinds:
                return [self._basic("value")]
        else:
            kinds = [named] if isinstance(named, str) else list(named)
        return [body for kind in kinds if (body := self._typed(kind, branch, place, hint)) is not None]

    def _typed(self, kind: str, branch: Branch, place: str, hint: str) -> str | None:
        """The values of one type; None where there are none."""
        if kind == "object":
            return self._object(branch, place, hint)
        if kind == "array":
            return self._array(branch, place, hint)
        if kind == "string":
            return self._string(branch)
        if kind in ("integer", "number"):
            return self._number(kind, branch)
        return self._basic(kind)

    def _number(self, kind: str, branch: Branch) -> str | None:
        low, above = _bound(branch, "minimum", "exclusiveMinimum", max)
        high, below = _bound(branch, "maximum", "exclusiveMaximum", min)
        if low is None and high is None:
            return self._basic(kind)
        if low is not None and high is not None and (low > high or (low == high and (above or below))):
            return None
        if kind == "number":
            return numbers(low, high, above=above, below=below)
        least = None if low is None else math.floor(low) + 1 if above else math.ceil(low)
        most = None if high is None else math.ceil(high) - 1 if below else math.floor(high)
        return None if least is not None and most is not None and least > most else integers(least, most)

    def _string(self, branch: Branch) -> str | None:
        low, high = branch.get("minLength", 0), branch.get("maxLength")
        if high is not None and low > high:
            return None
        if "pattern" in branch:
            try:
                body = pattern_rule(branch["pattern"])
            except UnsupportedPatternError:
                return self._basic("string")
            self._basic("char")
            return body
        form = f"format-{branch.get('format')}"
        if form in BASICS:
            return self._basic(form)
        if not low and high is None:
            return self._basic("string")
        return f'"\\"" {repeat(self._basic("char"), low, high)} "\\""'

    def _array(self, branch: Branch, place: str, hint: str) -> str | None:
        low, high = branch.get("minItems", 0), branch.get("maxItems")
        first, rest = branch.get("prefixItems", []), branch.get("items")
        if isinstance(rest, list):  # before 2020-12
            first, rest = rest, branch.get("additionalItems")
        if rest is None:  # what follows a tuple is written only where the schema demands more
            rest, high = True, (max(low, len(first)) if first and high is None else high)
        if rest is False:
            high = len(first) if high is None else min(high, len(first))
        if high is not None and low > high:
            return None
        ws = self._basic("ws")
        if high == 0:
            return f'"[" {ws} "]"'
        first = first[:high]
        items = [
            self._rule(item, f"{place}/prefixItems/{number}", f"{hint}-{number}") for number, item in enumerate(first)
        ]
        start = f' "," {ws} '.join(items)
        if len(items) == high:
            return f'"[" {ws} {start} {ws} "]"'
        item = self._rule(rest, f"{place}/items", f"{hint}-item")
        low, high = max(low - len(items), 0), None if high is None else high - len(items)
        following = f'("," {ws} {item})'
        if items:
            return f'"[" {ws} {start} {repeat(following, low, high)} {ws} "]"'
        more = repeat(following, max(low - 1, 0), None if high is None else high - 1)
        return f'"[" {ws} {item} {more} {ws} "]"' if low else f'"[" {ws} ({item} {more} {ws})? "]"'

    def _object(self, branch: Branch, place: str, hint: str) -> str | None:
        properties = branch.get("properties", {})
        required = branch.get("required", [])
        patterns = branch.get("patternProperties", {})
        others = branch.get("additionalProperties", not properties and not patterns)
        ws = self._basic("ws")
        if others is True and not {*properties, *patterns, *required} and "propertyNames" not in branch:
            return self._basic("object")
        members: list[tuple[str, bool]] = []
        for key in [*properties, *(key for key in required if key not in properties)]:
            schema = properties.get(key, True if others is False else others)
            if schema is False:
                if key in required:
                    return None
                continue
            value = self._rule(schema, f"{place}/properties/{key}", key)
            members.append((f"{literal(_json(key, place) + ':')} {ws} {value}", key in required))
        extra = [
            f'{self._string({"pattern": pattern})} ":" {ws} {self._rule(schema, f"{place}/patternProperties", hint)}'
            for pattern, schema in patterns.items()
            if schema is not False
        ]
        if others is not False:
            value = self._rule(others, f"{place}/additionalProperties", f"{hint}-value")
            extra.append(f'{self._key(branch, [*properties, *required], place, hint)} ":" {ws} {value}')
        rest = self._add(f"{hint}-other", " | ".join(extra)) if extra else None
        return f'"{{" {ws} {self._members(members, rest, hint)} "}}"'

    def _key(self, branch: Branch, taken: list[str], place: str, hint: str) -> str:
        if "propertyNames" in branch:
            schema = {"allOf": [branch["propertyNames"], {"type": "string"}]}
            return self._rule(schema, f"{place}/propertyNames", f"{hint}-key")
        if not taken:
            return self._basic("string")
        self._basic("char")
        return self._add(f"{hint}-key", other_keys(taken))

    def _members(self, members: list[tuple[str, bool]], rest: str | None, hint: str) -> str:
        """Properties in order with commas between those that are there; ``rest`` is any other one."""
        ws = self._basic("ws")

        def following(number: int) -> str:
            """What comes after a property was written, from this one on."""
            parts = [f'"," {ws} {member}' if needed else f'("," {ws} {member})?' for member, needed in members[number:]]
            return " ".join([*parts, *([f'("," {ws} {rest})*'] if rest else []), ws])

        leading = next((number for number, (_, needed) in enumerate(members) if needed), len(members))
        choices = []
        if leading < len(members):
            choices.append(f"{members[leading][0]} {following(leading + 1)}")
        elif rest:
            choices.append(f'{rest} ("," {ws} {rest})* {ws}')
        # Backwards through the optional properties before the first required one: any may be the first there is. Each
        # has a rule for what follows it, so that the grammar grows with their number and not with its square.
        after = self._add(f"{hint}-rest", following(leading)) if leading else ""
        for number in range(leading - 1, -1, -1):
            member = members[number][0]
            choices.append(f"{member} {after}")
            if number:
                after = self._add(f"{hint}-rest", f'("," {ws} {member})? {after}')
        if not choices:
            return ""
        body = f"({' | '.join(reversed(choices))})"
        return body if leading < len(members) else f"{body}?"


def _bound(branch: Branch, keyword: str, exclusive: str, pick: Any) -> tuple[float | None, bool]:
    """A bound and whether the value itself is left out."""
    plain, beyond = branch.get(keyword), branch.get(exclusive)
    if isinstance(beyond, bool):  # draft 4: a flag on the other keyword
        return plain, beyond and plain is not None
    if beyond is None or plain is None:
        return (plain, False) if beyond is None else (beyond, True)
    return (beyond, True) if pick(plain, beyond) == beyond else (plain, False)


def _is(value: Any, named: Any) -> bool:
    """Whether a value has one of the types named; None is any type."""
    names = [named] if isinstance(named, str) else named
    return names is None or any(
        (name == "null" and value is None)
        or (name == "boolean" and isinstance(value, bool))
        or (name == "string" and isinstance(value, str))
        or (name == "array" and isinstance(value, list))
        or (name == "object" and isinstance(value, dict))
        or (name == "number" and isinstance(value, int | float) and not isinstance(value, bool))
        or (name == "integer" and not isinstance(value, bool | str | None) and same(value, _whole(value)))
        for name in names
    )


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, int) or (isinstance(value, float) and value.is_integer()) else None


def _json(value: Any, place: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{value!r} at {place} is not JSON.") from error
    return text
