"""Whether a reply that has begun can still be the JSON object of a tool call."""

from __future__ import annotations

__all__ = ["WHITESPACE", "ObjectScout"]

WHITESPACE = " \t\r\n"
_KEYS = ("name", "parameters", "arguments", "type", "id")
_OUTSIDE_STRINGS = frozenset('-+.0123456789eEtrufalsn,:"{}[]')


class ObjectScout:
    """Reads on from where it stopped, so that a long object is read once.

    Args:
        start: where the object begins, whitespace allowed.
    """

    __slots__ = ("_depth", "_escaped", "_expected", "_key", "_place", "_quoted")

    def __init__(self, start: int) -> None:
        self._place = start
        self._depth = 0
        self._quoted = self._escaped = False
        self._key: str | None = None
        self._expected = ""  # within the outermost braces: a key, a colon, or anything

    def read(self, text: str) -> int | None:
        """Read the rest of ``text``, which has only grown since the last time.

        Returns:
            Where the object ends, 0 while it has not, None if this cannot become the object of a call.
        """
        while self._place < len(text):
            character = text[self._place]
            self._place += 1
            if not (self._inside(character) if self._quoted else self._outside(character)):
                return None
            if not self._depth and character == "}":
                return self._place
        return 0

    def _inside(self, character: str) -> bool:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = False
            if self._key is not None:
                known, self._key, self._expected = self._key in _KEYS, None, ":"
                return known
            return True
        if self._key is not None:
            self._key += character
            return any(key.startswith(self._key) for key in _KEYS)
        return True

    def _outside(self, character: str) -> bool:
        if character in WHITESPACE:
            return True
        if not self._depth:
            self._depth, self._expected = 1, "key"
            return character == "{"
        if self._expected == ":":
            self._expected = ""
            return character == ":"
        if self._expected == "key":
            self._expected = ""
            if character == '"':
                self._quoted, self._key = True, ""
            return character == '"'
        if character == '"':
            self._quoted = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
        elif character == "," and self._depth == 1:
            self._expected = "key"
        # A bracket that closes the outermost brace ends nothing.
        return character in _OUTSIDE_STRINGS and not (character == "]" and not self._depth)
