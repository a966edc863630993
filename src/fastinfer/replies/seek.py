"""Looking for words in text that arrives in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["Seeker"]


class Seeker:
    """Finds the first of some words: the earliest, among those at the same place the longest.

    Args:
        words: what is looked for; empty ones are ignored.
    """

    __slots__ = ("_firsts", "_longest", "_pattern", "_words")

    def __init__(self, words: Iterable[str]) -> None:
        # The longest first: a regular expression takes the first alternative that matches.
        self._words = sorted({word for word in words if word}, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(re.escape, self._words)))
        self._firsts = {word[0] for word in self._words}
        self._longest = len(self._words[0]) if self._words else 0

    def __bool__(self) -> bool:
        return bool(self._words)

    def find(self, text: str, *, final: bool = False) -> tuple[int, str | None]:
        """Where a word begins, or may begin.

        Args:
            text: what has arrived so far.
            final: nothing more will arrive.

        Returns:
            ``(place, word)``: ``text[:place]`` holds no word whatever follows, and ``word`` is at ``place``. Without a
            word (None), ``text[place:]`` is empty or the proper beginning of one.
        """
        if not self._words:
            return len(text), None
        match = self._pattern.search(text)
        found = match.start() if match else len(text)
        if not final:
            # A longer word that begins at the same place may still be completed, so ``found`` itself is looked at.
            for place in range(max(0, len(text) - self._longest + 1), min(found + 1, len(text))):
                if text[place] in self._firsts and self._begins(text[place:]):
                    return place, None
        return found, match.group() if match else None

    def _begins(self, tail: str) -> bool:
        return any(len(word) > len(tail) and word.startswith(tail) for word in self._words)
