"""llama.cpp's own judgement of grammars, with the vocabulary of the embedded model."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastinfer.models
from fastinfer.engines.llama.binding import llama


class Judge:
    """Asks llama.cpp's grammar sampler whether it would let a model write a text and end there."""

    def __init__(self, path: Path) -> None:
        parameters = llama.llama_model_default_params()
        parameters.vocab_only = True
        self._model = llama.llama_model_load_from_file(str(path).encode(), parameters)
        self.vocab = llama.llama_model_get_vocab(self._model)
        self._pieces: dict[bytes, int] = {}
        buffer = ctypes.create_string_buffer(256)
        for token in range(llama.llama_vocab_n_tokens(self.vocab)):
            size = llama.llama_token_to_piece(self.vocab, token, buffer, 256, 0, False)
            if size > 0 and not llama.llama_vocab_is_eog(self.vocab, token):
                self._pieces.setdefault(buffer.raw[:size], token)
        self._end = llama.llama_vocab_eos(self.vocab)
        self._bytes = {token: piece for piece, token in self._pieces.items()}
        self._whole = [token for piece, token in self._pieces.items() if "\ufffd" not in piece.decode(errors="replace")]
        self._ascii = [self._pieces[bytes([code])] for code in range(128) if bytes([code]) in self._pieces]
        self._longest = max(map(len, self._pieces))

    def close(self) -> None:
        llama.llama_model_free(self._model)

    def parses(self, gbnf: str) -> bool:
        sampler = llama.llama_sampler_init_grammar(self.vocab, gbnf.encode(), b"root")
        if sampler:
            llama.llama_sampler_free(sampler)
        return bool(sampler)

    def accepts(self, gbnf: str, text: str) -> bool:
        """Whether the grammar allows each token of ``text``, and the end after it."""
        sampler = llama.llama_sampler_init_grammar(self.vocab, gbnf.encode(), b"root")
        assert sampler, f"llama.cpp cannot parse:\n{gbnf}"
        try:
            for token in [*self._tokens(text.encode()), self._end]:
                if not self._allowed(sampler, [token]):
                    return False
                if token != self._end:
                    llama.llama_sampler_accept(sampler, token)  # ends the process if the token is not allowed
            return True
        finally:
            llama.llama_sampler_free(sampler)

    def write(self, gbnf: str, dice: random.Random, most: int = 80) -> str | None:
        """A text that the grammar allows, its tokens drawn at random; None if it has no end after ``most`` tokens."""
        sampler = llama.llama_sampler_init_grammar(self.vocab, gbnf.encode(), b"root")
        assert sampler, f"llama.cpp cannot parse:\n{gbnf}"
        closing = [self._end, *(self._pieces[mark] for mark in (b'"', b"}", b"]"))]
        written = b""
        try:
            for _ in range(most):
                some = [*self._ascii, *dice.sample(self._whole, 60), self._end]
                # Bytes that are no characters only where nothing else will do: llama.cpp takes any for a character.
                allowed = self._allowed(sampler, some) or self._allowed(sampler, list(self._pieces.values()))
                ends = [token for token in closing if token in allowed]
                token = ends[0] if ends and dice.random() < 0.4 else dice.choice(allowed)
                if token == self._end:
                    return written.decode()
                llama.llama_sampler_accept(sampler, token)
                written += self._bytes[token]
            return None
        finally:
            llama.llama_sampler_free(sampler)

    def _allowed(self, sampler: Any, some: list[int]) -> list[int]:
        entries = (llama.llama_token_data * len(some))(*(llama.llama_token_data(token, 1.0, 0.0) for token in some))
        candidates = llama.llama_token_data_array(entries, len(some), -1, False)
        llama.llama_sampler_apply(sampler, ctypes.byref(candidates))
        return [entry.id for entry in entries if entry.logit > 0]

    def _tokens(self, data: bytes) -> Iterator[int]:
        """The longest piece at each place; the real tokenizer may add spaces, which would not be the text's."""
        while data:
            size = next(n for n in range(min(len(data), self._longest), 0, -1) if data[:n] in self._pieces)
            yield self._pieces[data[:size]]
            data = data[size:]


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    found = Judge(Path(fastinfer.models.__file__).parent / "embedded" / "embedded.gguf")
    yield found
    found.close()
