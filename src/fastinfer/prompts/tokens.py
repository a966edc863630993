"""Rendered prompts to tokens, in which no caller's text ever becomes a special token.

A caller's text is guarded before the template sees it: where it holds the text of a special token, or could be part of
one together with what comes before or after it, a break is put into it. A special token of the prompt is one without
a break inside.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .marks import BREAK, IMAGE, MARK, MEDIA, escape, original

if TYPE_CHECKING:
    from fastinfer.engines.chat import SpecialToken, Vocabulary

__all__ = ["PromptTokenizer"]

Tokens = npt.NDArray[np.int32]

# User-defined tokens are plain text to llama.cpp. These steer the model all the same; templates also look for them in
# contents, where only the template's own may count.
_MARKERS = frozenset(
    f"<{slash}{space}{name}>"
    for name in ("think", "thinking", "answer", "tool", "tools", "tool_call", "tool_calls", "tool_response")
    for space in ("", "seed:")
    for slash in ("", "/")
) | {MEDIA}
_STRUCTURAL = re.compile(r"<\|.+>|<.+\|>|<｜.+｜>|</?seed:.+>|\[/?[A-Z][A-Z_]+\]", re.DOTALL)
# Words of JSON schemas, which templates compare with.
_WORDS = frozenset(
    {"type", "function", "name", "description", "parameters", "properties", "required", "items", "enum", "default"}
    | {"object", "string", "number", "integer", "boolean", "array", "null", "arguments", "return", "returns", "format"}
)
_C_SPACE = " \t\n\v\f\r"


class PromptTokenizer:
    """Guards texts and tokenizes prompts for one vocabulary. Safe to use from several threads.

    Args:
        vocabulary: of the model that reads the prompts.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def guard(self, text: str, *, inner: bool = True) -> str:
        """A caller's text as a template may print it anywhere.

        Args:
            text: the text.
            inner: it may be printed directly between the two halves of a special token, as a name between ``<`` and
                ``>``. False for values that templates compare with, such as ``"low"``.
        """
        text = escape(text)
        text = self._occurrence.sub(self._broken, text)
        core = text.strip()
        if not core:
            return text
        start = len(text) - len(text.lstrip())
        end = start + len(core)
        reach = range(1, min(len(core), self._longest) + 1)
        before = any(core[:n] in self._ends for n in reach) or (inner and core in self._all)
        after = any(core[-n:] in self._beginnings for n in reach)
        if before or after:
            return f"{text[:start]}{BREAK * before}{core}{BREAK * after}{text[end:]}"
        return text

    def _broken(self, found: re.Match[str]) -> str:
        return f"{BREAK * (found[0] in self._single)}{found[0]}{BREAK}"

    def guard_value(self, value: Any, *, inner: bool = True) -> Any:
        """A copy of a JSON value with every text in it guarded, keys included; words of JSON schemas stay."""
        if isinstance(value, str):
            return value if value in _WORDS else self.guard(value, inner=inner)
        if isinstance(value, dict):
            return {self.guard_value(k, inner=inner): self.guard_value(v, inner=inner) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.guard_value(item, inner=inner) for item in value]
        return value

    def encode(self, rendered: str) -> list[Tokens]:
        """The tokens of a rendered prompt: of the text before the first image, between images, after the last.

        BOS is the first token, once, if the tokenizer adds it or the template begins with it. A prompt without breaks
        that matter gets the tokens that llama-server gives it.

        Returns:
            arrays of shape (n,), one more than there are images.
        """
        vocabulary = self._vocabulary
        prefix: list[int] = []
        if vocabulary.adds_bos:
            rendered = rendered.removeprefix(vocabulary.bos)
            prefix = [vocabulary.bos_token]
        parts = [self._tokenize(*_positions(part)) for part in rendered.split(IMAGE)]
        parts[0][:0] = prefix
        return [np.array(part, dtype=np.int32) for part in parts]

    def _tokenize(self, text: str, breaks: list[int]) -> list[int]:
        breaks = self._effective(text, breaks) if breaks else breaks
        if not breaks:
            return self._vocabulary.tokenize(text, special=True)
        tokens: list[int] = []
        for piece in self._partition(text, breaks):
            if isinstance(piece, int):
                tokens.append(piece)
                continue
            start, end = piece
            cuts = [start, *(b for b in breaks if start < b < end), end]
            for n, (low, high) in enumerate(pairwise(cuts)):
                tokens += self._vocabulary.tokenize(text[low:high], special=False, continues=n > 0)
        return tokens

    def _effective(self, text: str, breaks: list[int]) -> list[int]:
        """The breaks inside what would be a special token without them."""
        found: set[int] = set()
        for match in self._token.finditer(text):
            first, after = _reach(match.start(), len(match[1]), breaks)
            found.update(breaks[first:after])
        return sorted(found)

    def _partition(self, text: str, breaks: list[int]) -> list[int | tuple[int, int]]:
        """Special tokens, and the spans of text between them: llama.cpp's tokenizer_st_partition, minding breaks."""
        pieces: list[int | tuple[int, int]] = [(0, len(text))]
        for special in self._vocabulary.specials:
            if special.text in text:
                pieces = [
                    new for p in pieces for new in ([p] if isinstance(p, int) else _cut(text, p, special, breaks))
                ]
        return pieces

    # What guards look for.

    @cached_property
    def _steering(self) -> frozenset[str]:
        """Texts of the tokens that no caller's text may become."""
        specials = self._vocabulary.specials
        texts = {s.text for s in specials if s.control or s.text in _MARKERS or _STRUCTURAL.fullmatch(s.text)}
        # SentencePiece writes a space as "▁": what looks different in the text is the same to the tokenizer.
        return frozenset(texts | {t.replace("▁", " ") for t in texts})

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        """These, and what templates look for although the vocabulary may have no token for it."""
        return tuple(sorted(self._steering | _MARKERS))

    @cached_property
    def _single(self) -> frozenset[str]:
        return frozenset(t for t in self._steering if len(t) == 1)

    @cached_property
    def _occurrence(self) -> re.Pattern[str]:
        """The first character of any of the texts; group 1 is the longest of them that begins there."""
        return re.compile(f"(?=({_alternatives(self._texts)})).", re.DOTALL)

    @cached_property
    def _token(self) -> re.Pattern[str]:
        return re.compile(f"(?=({_alternatives(sorted(self._steering))})).", re.DOTALL)

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._texts))

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(t[:n] for t in self._texts for n in range(1, len(t)))

    @cached_property
    def _ends(self) -> frozenset[str]:
        return frozenset(t[n:] for t in self._texts for n in range(1, len(t)))

    @cached_property
    def _all(self) -> str:
        return "\0".join(self._texts)


def _positions(part: str) -> tuple[str, list[int]]:
    """The text as the model reads it, and the positions in it of the breaks."""
    done: list[str] = []
    breaks: list[int] = []
    length = last = 0
    for found in MARK.finditer(part):
        done.append(part[last : found.start()])
        length += found.start() - last
        last = found.end()
        if found[0] == BREAK:
            breaks.append(length)
        else:
            done.append(original(found[0]))
            length += len(done[-1])
    done.append(part[last:])
    return "".join(done), breaks


def _reach(start: int, size: int, breaks: list[int]) -> tuple[int, int]:
    """Which breaks are inside a token's text; a text of one character has its break before it."""
    return bisect_right(breaks, start - (size == 1)), bisect_right(breaks, start + size - 1)


def _cut(text: str, span: tuple[int, int], special: SpecialToken, breaks: list[int]) -> Iterable[int | tuple[int, int]]:
    start, end = span
    search = start
    size = len(special.text)
    while (found := text.find(special.text, search, end)) >= 0:
        first, after = _reach(found, size, breaks)
        if first < after:
            search = found + 1
            continue
        left = found
        while special.lstrip and left > start and text[left - 1] in _C_SPACE:
            left -= 1
        if left > start:
            yield (start, left)
        yield special.id
        start = found + size
        while special.rstrip and start < end and text[start] in _C_SPACE:
            start += 1
        search = start
    if start < end:
        yield (start, end)


def _alternatives(texts: Iterable[str]) -> str:
    """A regular expression for the longest of the texts, in the form of a tree: quick for thousands of them."""
    groups: dict[str, list[str]] = {}
    empty = False
    for text in texts:
        if text:
            groups.setdefault(text[0], []).append(text[1:])
        else:
            empty = True
    branches = []
    for first, rests in groups.items():
        # Without this, a name of 40 letters would be a tree 40 deep.
        while all(rests) and len({rest[0] for rest in rests}) == 1:
            first += rests[0][0]
            rests = [rest[1:] for rest in rests]
        branches.append(re.escape(first) + _alternatives(rests))
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)})" + ("?" if empty else "")
