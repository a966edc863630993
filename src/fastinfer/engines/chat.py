"""What a chat engine takes and gives, in tokens and text; messages, templates and tools are above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fastinfer.provenance import Adjustment

if TYPE_CHECKING:
    from fastinfer.engines.llama.chat.counters import Counters, Occupancy

__all__ = [
    "ChatEngine",
    "Delta",
    "FinishReason",
    "Generation",
    "Outcome",
    "PlacedImage",
    "Sampling",
    "Sink",
    "SpecialToken",
    "Ticket",
    "TokenLogprob",
    "Vocabulary",
]

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
    """Where a generation goes. Called by the engine's thread, which must never wait here.

    Attributes:
        whole: nobody sees the reply before it is complete. It may come in one go then, and be begun again.
    """

    whole: bool

    def put(self, delta: Delta) -> None:
        """More of the reply."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """The reply is complete; nothing follows."""
        ...

    def fail(self, error: Exception) -> None:
        """The request failed; nothing follows."""
        ...


class Ticket(Protocol):
    """A submitted request."""

    def cancel(self) -> None:
        """Drop it at the engine's next step; its sink fails with RequestCancelledError. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A token that llama.cpp finds in a text before it tokenizes the rest.

    Attributes:
        id: the token.
        text: what stands for it in a prompt.
        control: it steers the model and is never part of plain text; False for user-defined tokens, which are.
        lstrip: white space before it is dropped.
        rstrip: white space after it is dropped.
    """

    id: int
    text: str
    control: bool
    lstrip: bool
    rstrip: bool


class Vocabulary(Protocol):
    """The tokens of a model, as prompts and grammars need them. Safe to use from several threads."""

    @property
    def size(self) -> int:
        """Number of tokens."""

    @property
    def architecture(self) -> str:
        """As the GGUF file names it, for example ``"seed_oss"``; "" where it names none."""

    @property
    def bos_token(self) -> int:
        """The token that begins a text, -1 where there is none."""

    @property
    def bos(self) -> str:
        """Its text, "" where there is none."""

    @property
    def eos(self) -> str:
        """Text of the token that ends a text, "" where there is none."""

    @property
    def adds_bos(self) -> bool:
        """The tokenizer is meant to put BOS first by itself."""

    @property
    def specials(self) -> tuple[SpecialToken, ...]:
        """The tokens found in a text before the rest is tokenized: the longest text first."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Control and unknown tokens by text."""

    @property
    def user_defined_tokens(self) -> Mapping[str, int]:
        """Tokens by text that are taken whole from any text and are plain text all the same."""

    def tokenize(self, text: str, *, special: bool, continues: bool = False) -> list[int]:
        """The tokens of a text; neither BOS nor EOS is added.

        Args:
            text: any text that UTF-8 can encode; NUL is a character like others.
            special: texts of control tokens become these tokens; those of user-defined tokens always do.
            continues: other text comes before it, so that a tokenizer's space at the beginning is left out.
        """
        ...

    def check_grammar(self, text: str) -> None:
        """Make sure that the engine can use a grammar that a user wrote; SchemaError where it cannot."""
        ...

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template in the model's file, or None.

        Args:
            name: of a further template, such as ``"tool_use"``; None for the main one.
        """
        ...


class ChatEngine(Protocol):
    """A running engine. Every method may be called from any thread."""

    @property
    def name(self) -> str:
        """Library and version."""

    @property
    def limit(self) -> int:
        """Most tokens of a prompt with its reply."""

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        """What differs from what was asked for."""

    @property
    def takes_images(self) -> bool:
        """Prompts may hold images."""

    @property
    def kernel_path(self) -> str:
        """How replies are computed, for provenance."""

    @property
    def counters(self) -> Counters:
        """What has been done so far; goes on to count, and is still there when the engine is gone."""

    def vocabulary(self) -> AbstractContextManager[Vocabulary]:
        """The model's vocabulary, which stays loaded within the ``with`` block."""
        ...

    def show(self, tokens: Sequence[str]) -> None:
        """Let these special tokens be part of replies' text, such as ``"<think>"``; before the first request."""
        ...

    def place(self, generation: Generation, images: Sequence[PlacedImage]) -> Generation:
        """A generation with images in its prompt, to be submitted once; for an engine that ``takes_images``.

        Raises:
            ImageDecodeError: the model's preprocessing refuses an image.
            PromptTooLongError: the model has to see an image at once that takes more tokens than are computed at once.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        ...

    def submit(self, generation: Generation, sink: Sink, *, wait: bool = False) -> Ticket:
        """Queue a generation; what becomes of it goes to the sink.

        Args:
            generation: the prompt and its options.
            sink: where the reply goes.
            wait: wait while the queue is full.

        Raises:
            MessageError: the prompt has no tokens.
            PromptTooLongError: the prompt leaves no room for a reply, however little else runs.
            QueueFullError: the queue is full, and ``wait`` is false.
            RequestTimeoutError: the queue was full until the deadline.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        ...

    def slots(self) -> list[dict[str, Any]]:
        """What each slot does, under llama-server's field names."""
        ...

    def metrics(self) -> dict[str, float]:
        """Counters and gauges under llama-server's names."""
        ...

    def occupancy(self) -> Occupancy:
        """Its slots, and how much of the KV cache is used."""
        ...

    def profile(self) -> dict[str, float]:
        """Where the steps' time went: ``steps``, and seconds in llama.cpp and in all."""
        ...

    def go_by(self, alias: str) -> None:
        """Be called so in logs."""
        ...

    def limit_steps(self, seconds: float) -> None:
        """Count as hanging, and as dead, where a step takes longer."""
        ...

    def check_process(self) -> None:
        """Refuse work in another process than the engine's own; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        ...

    def close(self) -> None:
        """Fail what runs and waits with EngineDeadError, free all memory. Idempotent, from any thread."""
        ...
