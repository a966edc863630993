"""Pieces of GBNF, llama.cpp's notation for grammars: literals, character classes, numbers, JSON's basic rules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["BASICS", "MAX_REPEAT", "character", "integers", "literal", "numbers", "other_keys", "repeat"]

#: llama.cpp unrolls repetitions and refuses more than 2000; bounds above this are left to validation.
MAX_REPEAT = 1500

_LITERAL = {c: c for c in " !#$%&'()*+,-./:;<=>?@[]^_`{|}~"} | {'"': '\\"', "\\": "\\\\"}
_FRACTION = '("." [0-9]{1,16})?'

#: Rules by name, each with the names of the rules it needs. White space is bounded: a small model that may write it
#: without end does.
BASICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ws": (r'| " " | "\n" [ \t]{0,20}', ()),
    "escape": (
        # Half a surrogate pair is no character, so only whole pairs may be written as escapes.
        r'"\\" (["\\/bfnrt] | "u" ([0-9abcefABCEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2} | '
        r'[dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}))',
        (),
    ),
    "char": (r'[^"\\\x00-\x1F\x7F] | escape', ("escape",)),
    "string": (r'"\"" char* "\""', ("char",)),
    "boolean": ('"true" | "false"', ()),
    "null": ('"null"', ()),
    "integer": ('"-"? ("0" | [1-9] [0-9]{0,15})', ()),
    # Two digits of exponent stay within a float.
    "number": (f'"-"? ("0" | [1-9] [0-9]{{0,15}}) {_FRACTION} ([eE] [-+]? [0-9]{{1,2}})?', ()),
    "member": ('string ":" ws value', ("string", "ws", "value")),
    "object": ('"{" ws (member ("," ws member)* ws)? "}"', ("member", "ws")),
    "array": ('"[" ws (value ("," ws value)* ws)? "]"', ("value", "ws")),
    "value": (
        "object | array | string | number | boolean | null",
        ("object", "array", "string", "number", "boolean", "null"),
    ),
    "date": (r'[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])', ()),
    "time": (
        r'([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
        r'("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
        (),
    ),
    "format-date": (r'"\"" date "\""', ("date",)),
    "format-time": (r'"\"" time "\""', ("time",)),
    "format-date-time": (r'"\"" date "T" time "\""', ("date", "time")),
    "hex4": ("[0-9a-fA-F]{4}", ()),
    "format-uuid": (r'"\"" hex4 hex4 "-" hex4 "-" hex4 "-" hex4 "-" hex4 hex4 hex4 "\""', ("hex4",)),
    "byte": ('"25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9]', ()),
    "format-ipv4": (r'"\"" byte "." byte "." byte "." byte "\""', ("byte",)),
    "format-email": (
        r'"\"" [a-zA-Z0-9] [a-zA-Z0-9_+-]{0,63} ("." [a-zA-Z0-9_+-]{1,63}){0,4} '
        r'"@" [a-zA-Z0-9] [a-zA-Z0-9-]{0,62} ("." [a-zA-Z0-9] [a-zA-Z0-9-]{0,62}){0,4} "." [a-zA-Z]{2,24} "\""',
        (),
    ),
    "format-duration": (
        r'"\"P" ([0-9]{1,6} "D" ("T" duration-time)? | "T" duration-time) "\""',
        ("duration-time",),
    ),
    "duration-time": (
        '[0-9]{1,6} "H" ([0-9]{1,6} "M")? ([0-9]{1,6} "S")? | [0-9]{1,6} "M" ([0-9]{1,6} "S")? | [0-9]{1,6} "S"',
        (),
    ),
}


def character(code: int) -> str:
    """A code point as it is written in a literal or a class; ASCII, and safe in both."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"


def literal(text: str) -> str:
    """Exactly this text."""
    return '"' + "".join(_LITERAL.get(c) or character(ord(c)) for c in text) + '"'


def repeat(item: str, low: int, high: int | None) -> str:
    """``item``, a single symbol, ``low`` to ``high`` times (None: any number); bounds too large are dropped."""
    low = low if low <= MAX_REPEAT else 0
    high = high if high is not None and high <= MAX_REPEAT else None
    if high is None:
        return f"{item}*" if low == 0 else f"{item}+" if low == 1 else f"{item}{{{low},}}"
    if high == 0:
        return ""
    return f"{item}?" if (low, high) == (0, 1) else f"{item}{{{low},{high}}}"


def integers(low: int | None, high: int | None) -> str:
    """The integers from ``low`` to ``high``, both included; None is no bound. ``low <= high``."""
    parts = []
    if low is None or low < 0:
        below = naturals(1 if high is None or high >= 0 else -high, None if low is None else -low)
        parts.append(f'"-" {below}')
    if high is None or high >= 0:
        parts.append(naturals(max(low or 0, 0), high))
    return " | ".join(parts)


def naturals(low: int, high: int | None) -> str:
    """The integers from ``low >= 0`` to ``high``, of at most 16 digits where there is no upper bound."""
    first = str(low)
    last = "9" * max(16, len(first)) if high is None else str(high)
    parts = []
    start, length = first, len(first)
    while length <= len(last):
        end = last if length == len(last) else "9" * length
        if start == "1" + "0" * (length - 1) and end == "9" * length:  # all of this length: so are those that follow
            most = len(last) if set(last) == {"9"} else len(last) - 1
            parts.append("[1-9]" + (f" [0-9]{{{length - 1},{most - 1}}}" if most > 1 else ""))
            length = most
        else:
            parts.append(_digits(start, end))
        length += 1
        start = "1" + "0" * (length - 1)
    return f"({' | '.join(parts)})"


def _digits(low: str, high: str) -> str:
    """The digit strings from ``low`` to ``high``, which are equally long."""
    if not low:
        return ""
    rest = len(low) - 1
    if low[0] == high[0]:
        return f'"{low[0]}" {_digits(low[1:], high[1:])}'.rstrip()
    parts, first, last = [], int(low[0]), int(high[0])
    any_rest = f" [0-9]{{{rest}}}" if rest else ""
    if low[1:] != "0" * rest:
        parts.append(f'"{first}" {_digits(low[1:], "9" * rest)}')
        first += 1
    tail = []
    if high[1:] != "9" * rest:
        tail.append(f'"{last}" {_digits("0" * rest, high[1:])}')
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}]{any_rest}")
    return f"({' | '.join(parts + tail)})"


def numbers(low: float | None, high: float | None, *, above: bool = False, below: bool = False) -> str | None:
    """The decimal numbers from ``low`` to ``high``; None where there are none.

    A bound that is not whole is kept to its whole part, the rest is for validation.

    Args:
        low: the least, or None.
        high: the greatest, or None.
        above: ``low`` itself is left out.
        below: ``high`` itself is left out.
    """
    parts = []
    if low is None or low < 0:
        negative = high is not None and high < 0
        part = _decimals(
            -high if negative and high is not None else 0.0,
            None if low is None else -low,
            above=negative and below,
            below=above,
        )
        parts += [f'"-" {part}'] if part else []
    if high is None or high > 0 or (high == 0 and not below):
        positive = low is not None and low >= 0
        part = _decimals(low if positive and low is not None else 0.0, high, above=positive and above, below=below)
        parts += [part] if part else []
    return " | ".join(parts) or None


def _decimals(low: float, high: float | None, *, above: bool, below: bool) -> str | None:
    first = math.floor(low)
    parts = []
    if above and low == first:  # more than a whole number: it needs a fraction that is not zero
        if high is None or high > first:
            parts.append(f'{naturals(first, first)} "." "0"{{0,15}} [1-9] [0-9]{{0,15}}')
        first += 1
    if high is None:
        parts.append(f"{naturals(first, None)} {_FRACTION}")
    else:
        last = math.floor(high)
        if first < last:
            parts.append(f"{naturals(first, last - 1)} {_FRACTION}")
        if first <= last and not (below and high == last):
            parts.append(f"{naturals(last, last)} " + ('("." "0"{1,16})?' if high == last else _FRACTION))
    return f"({' | '.join(parts)})" if parts else None


def other_keys(names: Iterable[str]) -> str:
    """JSON strings that are none of ``names``; needs the rules ``char`` and ``escape``."""
    tree: dict[str, Any] = {}
    for name in names:
        if not any(c in '"\\' or ord(c) < 32 for c in name):  # such keys have more than one spelling
            node = tree
            for c in (*name, ""):
                node = node.setdefault(c, {})
    return f'"\\"" {_others(tree)}'


def _others(node: dict[str, Any]) -> str:
    taken = "".join(character(ord(c)) for c in sorted(node) if c)
    parts = [f'[^"\\\\\\x00-\\x1F\\x7F{taken}] char* "\\""', 'escape char* "\\""']
    parts += [f"{literal(c)} {_others(node[c])}" for c in sorted(node) if c]
    if "" not in node:
        parts.append('"\\""')
    return f"({' | '.join(parts)})"
