"""The vocabulary of a loaded model: text to tokens, tokens to bytes, and which tokens are special."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from fastinfer.engines.chat import SpecialToken
from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.replies.schema import check_gbnf

__all__ = ["Vocabulary"]

# llama.h, enum llama_token_attr.
_UNKNOWN, _CONTROL, _USER_DEFINED, _LSTRIP, _RSTRIP = 1 << 0, 1 << 3, 1 << 4, 1 << 7, 1 << 8


class Vocabulary:
    """The tokens of a model; usable until the model is closed. Safe to use from several threads.

    Args:
        model: the loaded model.

    Attributes:
        size: number of tokens.
        architecture: as the GGUF file names it, for example ``"seed_oss"``; "" where it names none.
        bos_token: the token that begins a text, -1 where there is none.
        bos: its text, "" where there is none.
        eos: text of the token that ends a text, "" where there is none.
        adds_bos: the tokenizer is meant to put BOS first by itself.
        end_tokens: the tokens that end a reply.
        handle: llama.cpp's pointer to it.
    """

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self.handle: Any = model.vocabulary_handle
        self.size = model.vocabulary_size
        self.architecture = _architecture(model.handle)
        self.bos_token = int(llama.llama_vocab_bos(self.handle))
        self.bos = model.text_of(self.bos_token)
        self.eos = model.text_of(int(llama.llama_vocab_eos(self.handle)))
        self.adds_bos = self.bos_token >= 0 and bool(llama.llama_vocab_get_add_bos(self.handle))
        self.end_tokens: frozenset[int] = frozenset(model.end_tokens.tolist())

    def tokenize(self, text: str, *, special: bool, continues: bool = False) -> list[int]:
        """The tokens of a text; neither BOS nor EOS is added.

        Args:
            text: any text that UTF-8 can encode; NUL is a character like others.
            special: texts of control tokens become these tokens; those of user-defined tokens always do.
            continues: other text comes before it, so that a tokenizer's space at the beginning is left out.
        """
        return self._model.tokenize(text, special=special, continues=continues)

    @cached_property
    def specials(self) -> tuple[SpecialToken, ...]:
        """The tokens found in a text before the rest is tokenized, in llama.cpp's order: the longest text first."""
        found = []
        for token in range(self.size):
            kind = int(llama.llama_vocab_get_attr(self.handle, token))
            if kind & (_UNKNOWN | _CONTROL | _USER_DEFINED) and (text := self._model.text_of(token)):
                control = bool(kind & (_UNKNOWN | _CONTROL))
                found.append(SpecialToken(token, text, control, bool(kind & _LSTRIP), bool(kind & _RSTRIP)))
        return tuple(sorted(found, key=lambda special: len(special.text.encode()), reverse=True))

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Control and unknown tokens by text."""
        return MappingProxyType({s.text: s.id for s in reversed(self.specials) if s.control})

    @cached_property
    def user_defined_tokens(self) -> Mapping[str, int]:
        """Tokens by text that are taken whole from any text and are plain text all the same."""
        return MappingProxyType({s.text: s.id for s in reversed(self.specials) if not s.control})

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token; control and unknown tokens have none unless ``special``."""
        return self._model.piece(token, special=special)

    def pieces(self, *, visible: tuple[str, ...] = ()) -> list[bytes]:
        """The bytes of every token, by token; control and unknown tokens have none.

        The list is the caller's. The first call takes about 0.25 s for 262 000 tokens.

        Args:
            visible: texts of special tokens that are to show, such as ``"<think>"``; others are ignored.
        """
        table = list(self._pieces)
        for text in visible:
            if (token := self.special_tokens.get(text)) is not None:
                table[token] = text.encode()
        return table

    @cached_property
    def _pieces(self) -> tuple[bytes, ...]:
        # One small buffer for all: a call and a copy for each token is what the time goes into.
        vocab, size, convert = self.handle, 48, llama.llama_token_to_piece
        buffer = ctypes.create_string_buffer(size)
        pieces = []
        for token in range(self.size):
            count = convert(vocab, token, buffer, size, 0, False)
            pieces.append(buffer.raw[:count] if count >= 0 else self.piece(token))
        return tuple(pieces)

    def check_grammar(self, text: str) -> None:
        """Make sure that llama.cpp can use a grammar that a user wrote.

        Raises:
            SchemaError: it cannot; see :func:`fastinfer.replies.check_gbnf`.
        """
        check_gbnf(text, self.handle)

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template in the GGUF file, or None.

        Args:
            name: of a further template, such as ``"tool_use"``; None for the main one.
        """
        source = llama.llama_model_chat_template(self._model.handle, name.encode() if name else None)
        return source.decode("utf-8", "replace") if source else None


def _architecture(handle: Any) -> str:
    buffer = ctypes.create_string_buffer(256)
    count = llama.llama_model_meta_val_str(handle, b"general.architecture", buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if count >= 0 else ""
