"""Answers in a model's own tokens: labels into tokens, generated tokens into names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastinfer.engines.base import Naming

__all__ = ["AnswerTokens"]


class AnswerTokens:
    """The part of a tokenizer that answers need. Safe from several threads at once is only :meth:`text_of`.

    Args:
        tokenizer: the model's, as Transformers loads it.
        end_tokens: tokens that end an answer, beside the tokenizer's own.

    Attributes:
        end_tokens: all tokens that end an answer, in order.
    """

    def __init__(self, tokenizer: Any, end_tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # Some tokenizers put a space before any text, which is wrong for text that continues another one.
        first = tokenizer.convert_ids_to_tokens(self._plain("a")[:1])
        self._anchor = "\n" if first and str(first[0]).startswith("▁") else ""
        own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        self.end_tokens: tuple[int, ...] = tuple(sorted({*end_tokens, *own}))

    def answer(self, label: str, lead: str) -> list[int]:
        """Tokens of a label as an answer that starts with ``lead``; none of them is a special token."""
        return self._continued(lead + label)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens, without special ones and white space around it."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    def naming(self, tokens: Sequence[int], chances: Sequence[float], most_tokens: int) -> Naming:
        """The name in generated tokens.

        Args:
            tokens: the generated tokens, one more than the limit where none of them ends the answer before.
            chances: log-probability of each. That of the token that ends the name counts too, those of tokens beyond
                the limit do not.
            most_tokens: the most tokens of a name.
        """
        kept: list[int] = []
        total = 0.0
        for token, chance in zip(tokens, chances, strict=True):
            ended = token in self.end_tokens
            if ended or len(kept) < most_tokens:
                total += chance
            if ended:
                return Naming(self.text_of(kept), math.exp(total), True)
            if len(kept) < most_tokens:
                kept.append(token)
        return Naming(self.text_of(kept), math.exp(total), False)

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _continued(self, text: str) -> list[int]:
        if self._anchor:
            return self._plain(self._anchor + text)[len(self._plain(self._anchor)) :]
        return self._plain(text)
