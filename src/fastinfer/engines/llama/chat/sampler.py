"""How a request's next token is chosen: llama.cpp's samplers in llama-server's order, and grammar by checking.

The chain is penalties, top-k, top-p, min-p, temperature, draw. Sorting a vocabulary of 150,000 for it takes most of a
millisecond, so it is cut to the likeliest candidates first, where that provably changes nothing: penalties only ever
lower the scores of the tokens they look back on, so what is among the ``top_k`` best afterwards was among the ``top_k``
plus that many best before. The device can do that cut too, and then only the candidates are read back.
"""

from __future__ import annotations

import ctypes
import secrets
from typing import Any

import numpy as np
import numpy.typing as npt

from fastinfer.engines.chat import Sampling, TokenLogprob
from fastinfer.engines.llama.binding import llama, quick
from fastinfer.engines.llama.chat.cut import cut_for, penalises
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.errors import SchemaError

__all__ = ["Candidates", "TokenSampler", "device_cut"]

#: llama.cpp's seed for "any", which is therefore no seed of a request.
_ANY_SEED = 2**32 - 1

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def device_cut(size: int) -> Any:
    """A chain that leaves the ``size`` likeliest candidates, to be run by the device; the caller frees it."""
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_k(size))
    return chain


class Candidates:
    """Room for every token of a vocabulary as llama.cpp's samplers take them. Shared by the requests of an engine."""

    def __init__(self, vocabulary_size: int) -> None:
        self._ids = np.arange(vocabulary_size, dtype=np.int32)
        self._data = np.empty(vocabulary_size, _CANDIDATE)
        self._pointer = self._data.ctypes.data_as(ctypes.POINTER(llama.llama_token_data))
        self._array = llama.llama_token_data_array()
        self._one = (llama.llama_token_data * 1)()

    def fill(self, scores: npt.NDArray[np.float32]) -> Any:
        """All tokens with these scores (vocabulary,)."""
        self._data["id"], self._data["logit"], self._data["p"] = self._ids, scores, 0
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._pointer, len(self._ids), -1, False
        return ctypes.byref(array)

    def selected(self) -> int:
        """The token that a chain has selected, or -1 where none was left."""
        index = self._array.selected
        if not 0 <= index < self._array.size or self._array.data[index].logit == -np.inf:
            return -1
        return int(self._array.data[index].id)

    def allows(self, grammar: Any, token: int) -> bool:
        """A grammar's sampler takes this token next."""
        self._one[0].id, self._one[0].logit, self._one[0].p = token, 1.0, 0.0
        array = llama.llama_token_data_array(ctypes.cast(self._one, type(self._pointer)), 1, -1, False)
        quick.llama_sampler_apply(grammar, ctypes.byref(array))
        return bool(self._one[0].logit != -np.inf)


class TokenSampler:
    """Chooses the tokens of one request. For the engine's thread, but for its creation.

    Args:
        model: the model.
        sampling: the options.
        prompt: the prompt's tokens; penalties look back on them.
        limit: most tokens the request can have, for penalties over all of them.
        grammar: GBNF to follow, or None.
        logprobs: alternatives to report; None no log-probabilities.
        device_cut: candidates that the device leaves of a row; 0 none.

    Raises:
        SchemaError: llama.cpp cannot parse the grammar.
    """

    def __init__(
        self,
        model: LlamaModel,
        sampling: Sampling,
        prompt: npt.NDArray[np.int32],
        *,
        limit: int,
        grammar: str | None,
        logprobs: int | None,
        device_cut: int,
    ) -> None:
        self._model = model
        self.seed = secrets.randbelow(_ANY_SEED) if sampling.seed is None else sampling.seed
        ends = [int(t) for t in model.end_tokens] if sampling.ignore_end else []
        cut = cut_for(sampling, always=len(ends))
        #: It reads every token's score, and not just the candidates that the device leaves.
        self.needs_scores = bool(grammar) or logprobs is not None or not 0 < cut <= device_cut
        self._logprobs = logprobs
        self.grammar: Any = None
        self._chain: Any = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        biases = [(token, -np.inf) for token in ends] + list(sampling.logit_bias)
        if biases:
            array = (llama.llama_logit_bias * len(biases))(*biases)
            self._add(llama.llama_sampler_init_logit_bias(model.vocabulary_size, len(biases), array))
        if (self.needs_scores or not device_cut) and cut:
            self._add(llama.llama_sampler_init_top_k(cut))
        if penalises(sampling):
            last_n = limit if sampling.repeat_last_n < 0 else sampling.repeat_last_n
            self._add(
                llama.llama_sampler_init_penalties(
                    model.vocabulary_size,
                    last_n,
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                )
            )
        else:
            last_n = 0
        self._add(llama.llama_sampler_init_top_k(sampling.top_k))
        self._add(llama.llama_sampler_init_top_p(sampling.top_p, 0))
        self._add(llama.llama_sampler_init_min_p(sampling.min_p, 0))
        self._add(llama.llama_sampler_init_temp(sampling.temperature))
        self._add(llama.llama_sampler_init_dist(self.seed))
        for token in prompt[-last_n:] if last_n else ():
            quick.llama_sampler_accept(self._chain, int(token))
        if grammar:
            self.grammar = llama.llama_sampler_init_grammar(model.vocabulary_handle, grammar.encode(), b"root")
            if not self.grammar:
                self.close()
                raise SchemaError(
                    "llama.cpp cannot parse the grammar.", hint="The logger 'fastinfer.llama' says where it fails."
                )

    def _add(self, sampler: Any) -> None:
        llama.llama_sampler_chain_add(self._chain, sampler)

    def close(self) -> None:
        """Free the samplers. Idempotent."""
        for sampler in (self._chain, self.grammar):
            if sampler:
                llama.llama_sampler_free(sampler)
        self._chain = self.grammar = None

    def sample(self, context: LlamaContext, row: int, *, slow: bool = False) -> int:
        """The next token after a row of the last batch, whatever the grammar; the samplers take note of it.

        Args:
            context, row: where the scores are.
            slow: give up Python's lock meanwhile, so that others can sample too.
        """
        sample = llama.llama_sampler_sample if slow else quick.llama_sampler_sample
        return int(sample(self._chain, context.handle, row))

    def sample_within(self, context: LlamaContext, row: int, candidates: Candidates, opening: int | None) -> int:
        """The next token after a row of the last batch, within the grammar; the samplers take note of it.

        Args:
            context, row: where the scores are.
            candidates: room to work in.
            opening: a token that is fine too, and which the grammar does not see.

        Raises:
            SchemaError: no token is left, which ``ignore_end`` brings about where the grammar has ended.
        """
        scores = context.scores(row)
        quick.llama_sampler_apply(self._chain, candidates.fill(scores))
        token = candidates.selected()
        if token == opening:
            quick.llama_sampler_accept(self._chain, token)
            return token
        # Most tokens fit: checking one is cheap, and masking a whole vocabulary is not.
        if token < 0 or not candidates.allows(self.grammar, token):
            array = candidates.fill(scores)
            quick.llama_sampler_apply(self.grammar, array)
            quick.llama_sampler_apply(self._chain, array)
            token = candidates.selected()
            # llama.cpp ends the process on a token that the grammar does not allow.
            if token < 0:
                raise SchemaError("The other options forbid every token that the grammar allows.")
        quick.llama_sampler_accept(self._chain, token)
        quick.llama_sampler_accept(self.grammar, token)
        return token

    def logprob(self, context: LlamaContext, row: int, token: int) -> TokenLogprob | None:
        """The log-probability of a chosen token and of the likeliest ones, if the request asked for them."""
        if self._logprobs is None:
            return None
        scores = context.scores(row).astype(np.float64)
        scores -= scores.max()
        scores -= np.log(np.exp(scores).sum())
        count = min(self._logprobs, len(scores))
        best = np.argpartition(-scores, count - 1)[:count] if count else np.empty(0, np.int64)
        best = best[np.argsort(-scores[best], kind="stable")]
        piece = self._model.piece(token)
        return TokenLogprob(
            token=_shown(piece),
            bytes=piece,
            logprob=float(scores[token]),
            top=tuple((_shown(self._model.piece(int(t))), float(scores[t])) for t in best),
        )


def _shown(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")
