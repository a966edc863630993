"""What a chat engine takes and gives, in tokens and text; messages, templates and tools are above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Delta", "FinishReason", "Generation", "Outcome", "PlacedImage", "Sampling", "Sink", "TokenLogprob"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen: llama.cpp's chain in llama-server's order.

    Penalties, top-k, top-p, min-p, temperature, then a draw from what is left.

    Attributes:
        temperature: 0 takes the likeliest token; above 0 divides the scores.
        top_k: candidates kept; 0 all.
        top_p: the smallest set of candidates with this much probability is kept; 1 all.
        min_p: candidates below this share of the likeliest one's probability are dropped; 0 none.
        repeat_penalty: over 1 makes tokens among the last ``repeat_last_n`` less likely; 1 is off.
        repeat_last_n: tokens looked back, the prompt's included; 0 is off, -1 the whole context.
        frequency_penalty: taken off a token's score for each time it is among them.
        presence_penalty: taken off once if it is among them.
        logit_bias: (token, what is added to its score) pairs.
        ignore_end: tokens that end a reply are never chosen.
        seed: 0 to 2**32 - 2 for a reproducible draw; None draws a fresh one.
    """

    temperature: float = 0.6
    top_k: int = 60
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.05
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_end: bool = False
    seed: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PlacedImage:
    """An image in a prompt.

    Attributes:
        at: it comes before this one of the text's tokens; their number puts it at the end.
        pixels: (height, width, 3) uint8, contiguous RGB.
    """

    at: int
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """One prompt to continue.

    Attributes:
        tokens: the prompt, (n,) int32; below 0 where an image is.
        sampling: how tokens are chosen.
        max_tokens: most tokens of the reply; None as many as the context holds.
        stop: strings that end the reply; they are not part of it.
        grammar: GBNF that the reply has to follow, or None.
        grammar_after: the grammar holds from the end of this text on (the end of the reasoning); None from the start.
        grammar_opening: a token that may come first in spite of the grammar, to begin what ends with
            ``grammar_after``; where another comes first, the grammar holds from the start. None where the prompt has
            begun it already.
        logprobs: alternatives reported with each token's log-probability; 0 none, None no log-probabilities at all.
        deadline: ``time.monotonic()`` seconds at which the request fails with RequestTimeoutError, or None.
        images: what the engine has made of the prompt's images; None without. With them it can be submitted once.
    """

    tokens: npt.NDArray[np.int32]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    grammar: str | None = None
    grammar_after: str | None = None
    grammar_opening: int | None = None
    logprobs: int | None = None
    deadline: float | None = None
    images: Any = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token.

    Attributes:
        token: its text; incomplete UTF-8 is shown as U+FFFD.
        bytes: its bytes.
        logprob: natural logarithm of its probability in the model's own distribution, before any sampling option.
        top: the likeliest tokens at this place with theirs, best first.
    """

    token: str
    bytes: bytes
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What a step added to a reply: text (complete characters), and the log-probabilities that were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended.

    Attributes:
        finish_reason: ``"stop"``: the model ended the reply, or a stop string did; ``"length"``: ``max_tokens`` or the
            end of the context.
        stop: the stop string that ended it, or None.
        prompt_tokens: tokens of the prompt.
        cached_tokens: of these, not evaluated again because a conversation that was kept shares them.
        completion_tokens: tokens generated, the one that ends the reply included.
        seed: the seed that reproduces it.
        queued_ms: from submission until a slot took it.
        prompt_ms: from then to the first token.
        predicted_ms: from the first token to the last.
        preempted: times it gave its room to others and was resumed.
    """

    finish_reason: FinishReason
    stop: str | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    seed: int
    queued_ms: float
    prompt_ms: float
    predicted_ms: float
    preempted: int = 0


class Sink(Protocol):
    """Where a generation goes. Called by the engine's thread, which must never wait here."""

    def put(self, delta: Delta) -> None:
        """More of the reply."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """The reply is complete; nothing follows."""
        ...

    def fail(self, error: Exception) -> None:
        """The request failed; nothing follows."""
        ...
