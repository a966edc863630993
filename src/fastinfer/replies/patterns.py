"""Regular expressions of JSON schemas as GBNF, for what is between the quotes of a JSON string."""

from __future__ import annotations

import json

from fastinfer.replies.gbnf import MAX_REPEAT, character, literal

__all__ = ["UnsupportedPatternError", "pattern_rule"]

Ranges = tuple[tuple[int, int], ...]

_LAST = 0x10FFFF
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 13), (32, 32))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "a": 7, "0": 0}
#: What stands in a JSON string as itself: no quote, backslash, control character or half a surrogate pair.
_PLAIN: Ranges = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0xD7FF), (0xE000, _LAST))
_ESCAPED = (*range(0x20), 0x22, 0x5C, 0x7F)


class UnsupportedPatternError(Exception):
    """The pattern has something that a grammar cannot say, or that would make it too large."""


def pattern_rule(pattern: str) -> str:
    """GBNF of the JSON strings that ``pattern`` is found in; needs the rule ``char``.

    The syntax is what ECMA-262 and Python share; ``\\d``, ``\\w`` and ``\\s`` are ASCII's.

    Raises:
        UnsupportedPatternError: lookaround, backreferences, flags, word boundaries, ``^`` or ``$`` elsewhere than at
            the ends, too many repetitions, or a syntax error.
    """
    try:
        return f'"\\"" ({_Reader(pattern).whole()}) "\\""'
    except (IndexError, ValueError, RecursionError) as error:
        raise UnsupportedPatternError(f"cannot be read: {error}") from error


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0

    def whole(self) -> str:
        parts = []
        while True:
            begins = self._take("^")
            body, _ = self._sequence()
            ends = self._take("$")
            parts.append(" ".join(filter(None, ("" if begins else "char*", body, "" if ends else "char*"))) or '""')
            if not self._take("|"):
                break
        if self._place < len(self._pattern):
            raise UnsupportedPatternError(f"{self._pattern[self._place]!r} at {self._place}")
        return " | ".join(parts)

    def _take(self, text: str) -> bool:
        if self._pattern.startswith(text, self._place):
            self._place += len(text)
            return True
        return False

    def _peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def _sequence(self) -> tuple[str, int]:
        """Items up to ``|``, ``)``, ``^``, ``$`` or the end, and how many rules llama.cpp makes of them."""
        items, weight = [], 0
        while self._peek() and self._peek() not in "|)^$":
            item, cost = self._item()
            item, cost = self._repeated(item, cost)
            items.append(item)
            weight += cost
        return " ".join(items), weight

    def _item(self) -> tuple[str, int]:
        if self._take("("):
            self._group()
            parts, weight = [], 1
            while True:
                body, cost = self._sequence()
                parts.append(body or '""')
                weight += cost
                if not self._take("|"):
                    break
            if not self._take(")"):
                raise UnsupportedPatternError(f"{self._peek() or 'end'!r} at {self._place} inside a group")
            return f"({' | '.join(parts)})", weight
        if self._take("["):
            return _written(self._set()), 1
        if self._take("."):
            return _written(_complement(((10, 10), (13, 13), (0x2028, 0x2029)))), 1
        if self._peek() in "*+?":
            raise UnsupportedPatternError(f"nothing to repeat at {self._place}")
        return _written(self._one(inside=False)), 1

    def _group(self) -> None:
        if not self._take("?"):
            return
        if self._take(":"):
            return
        if self._take("P<") or (self._take("<") and self._peek() not in "=!"):
            self._place = self._pattern.index(">", self._place) + 1
            return
        raise UnsupportedPatternError(f"'(?' at {self._place}")

    def _repeated(self, item: str, weight: int) -> tuple[str, int]:
        low, high = 1, 1
        most: int | None
        if self._take("*"):
            low, most = 0, None
        elif self._take("+"):
            low, most = 1, None
        elif self._take("?"):
            low, most = 0, 1
        elif (bounds := self._bounds()) is not None:
            low, most = bounds
        else:
            return item, weight
        if self._peek() in ("*", "+") and self._peek():
            raise UnsupportedPatternError(f"possessive or double repetition at {self._place}")
        self._take("?")  # a lazy repetition matches the same strings
        high = max(low, most or 1)
        if weight * high > MAX_REPEAT:
            raise UnsupportedPatternError("too many repetitions")
        marks = {(0, None): "*", (1, None): "+", (0, 1): "?"}
        mark = marks.get((low, most)) or f"{{{low},{'' if most is None else most}}}"
        return ('""' if most == 0 else f"{item}{mark}"), weight + high

    def _bounds(self) -> tuple[int, int | None] | None:
        end = self._pattern.find("}", self._place)
        if self._peek() != "{" or end < 0:
            return None
        low, comma, high = self._pattern[self._place + 1 : end].partition(",")
        if not low and comma and high.isdecimal():
            raise UnsupportedPatternError("{,n} is a repetition to Python and plain text to ECMA-262")
        if not low.isdecimal() or (high and not high.isdecimal()):
            return None
        self._place = end + 1
        return int(low), int(high) if high else None if comma else int(low)

    def _set(self) -> Ranges:
        negated = self._take("^")
        found: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            first = False
            ranges = self._one(inside=True)
            if self._peek() == "-" and self._pattern[self._place + 1] != "]" and _single(ranges):
                self._place += 1
                upper = self._one(inside=True)
                if not _single(upper) or upper[0][0] < ranges[0][0]:
                    raise UnsupportedPatternError(f"range at {self._place}")
                ranges = ((ranges[0][0], upper[0][0]),)
            found += ranges
        self._place += 1
        return _complement(tuple(found)) if negated else tuple(found)

    def _one(self, *, inside: bool) -> Ranges:
        """A character, or a class such as ``\\d``."""
        c = self._pattern[self._place]
        self._place += 1
        if c != "\\":
            return ((ord(c), ord(c)),)
        c = self._pattern[self._place]
        self._place += 1
        if c.lower() in _CLASSES:
            ranges = _CLASSES[c.lower()]
            return _complement(ranges) if c.isupper() else ranges
        if c in ("x", "u"):
            size = 2 if c == "x" else 4
            digits = self._pattern[self._place : self._place + size]
            if len(digits) < size or not digits.isalnum():
                raise UnsupportedPatternError(f"\\{c} at {self._place - 2}")
            code = int(digits, 16)
            self._place += size
        elif c == "b" and inside:
            code = 8
        elif c in _CONTROLS:
            code = _CONTROLS[c]
        elif c.isalnum():
            raise UnsupportedPatternError(f"\\{c} at {self._place - 2}")
        else:
            code = ord(c)
        return ((code, code),)


def _single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _complement(ranges: Ranges) -> Ranges:
    found, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return (*found, (start, _LAST)) if start <= _LAST else tuple(found)


def _written(ranges: Ranges) -> str:
    """One of these characters, as JSON writes it within a string."""
    inside = [(max(a, low), min(b, high)) for low, high in ranges for a, b in _PLAIN if max(a, low) <= min(b, high)]
    parts = []
    if inside:
        spans = (character(a) if a == b else f"{character(a)}-{character(b)}" for a, b in sorted(set(inside)))
        parts.append(f"[{''.join(spans)}]")
    for code in _ESCAPED:
        if any(low <= code <= high for low, high in ranges):
            parts.append(literal(json.dumps(chr(code))[1:-1]))
    if not parts:
        raise UnsupportedPatternError("a set without characters")
    return parts[0] if len(parts) == 1 and inside else f"({' | '.join(parts)})"
