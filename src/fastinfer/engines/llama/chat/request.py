"""A request on its way through the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastinfer.engines.chat import Generation, Outcome, Sink
from fastinfer.replies import ReplyText

if TYPE_CHECKING:
    from fastinfer.engines.llama.chat.pictures import Pictures
    from fastinfer.engines.llama.chat.sampler import TokenSampler

__all__ = ["Request"]

Ints = npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class Request:
    """One generation, its place in the KV cache and its reply so far. The engine's thread owns all but ``cancelled``.

    Attributes:
        generation, sink: what is asked, and where the reply goes.
        number: order of arrival.
        limit: most tokens, prompt and reply together.
        cancelled: set by any thread; the engine drops the request at its next step.
        tokens: prompt and reply, room for ``limit``; the first ``length`` count.
        done: tokens evaluated, whose cells the sequence holds; ``length - done`` are still to be.
        cells: the cells of the first ``done`` tokens.
        slot: the slot it runs in, or -1.
        sequence: the sequence it has in the KV cache, or -1.
        leader: a running request that is evaluating a prompt which starts alike, to be copied at ``leader_length``.
        pictures: the images in its prompt, or None.
        predicted: tokens generated.
        cached: prompt tokens that were found in the cache at the first admission.
    """

    generation: Generation
    sink: Sink
    number: int
    limit: int
    cancelled: bool = False
    tokens: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    length: int = 0
    done: int = 0
    cells: Ints = field(default_factory=lambda: np.empty(0, np.int32))
    slot: int = -1
    sequence: int = -1
    leader: Request | None = None
    leader_length: int = 0
    sampler: TokenSampler | None = None
    pictures: Pictures | None = field(init=False)
    text: ReplyText = field(init=False)
    _awaited: bytes | None = field(init=False)
    _tail: bytes = b""
    predicted: int = 0
    cached: int = 0
    preempted: int = 0
    arrived: float = field(default_factory=time.perf_counter)
    admitted: float = 0.0
    first: float = 0.0
    last: float = 0.0

    def __post_init__(self) -> None:
        self.text = ReplyText(self.generation.stop)
        self.pictures = self.generation.images
        generation = self.generation
        waits = generation.grammar is not None and generation.grammar_opening is None
        self._awaited = generation.grammar_after.encode() if waits and generation.grammar_after else None

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.generation.tokens)

    @property
    def pending(self) -> int:
        """Tokens to evaluate before the next one can be chosen."""
        return self.length - self.done

    @property
    def ready(self) -> int:
        """Of these, text that can be evaluated at once: up to the next image."""
        end = None if self.pictures is None else self.pictures.text_end(self.done)
        return (self.length if end is None else end) - self.done

    @property
    def is_at_picture(self) -> bool:
        """What comes next is an image."""
        return self.pictures is not None and self.pictures.at(self.done) is not None

    def position(self, cell: int) -> int:
        """The position of a cell; they differ where images take fewer positions than cells."""
        return cell if self.pictures is None else self.pictures.position(cell)

    def whole(self, length: int) -> int:
        """The most of the first ``length`` cells that cuts no image."""
        return length if self.pictures is None else self.pictures.whole(length)

    @property
    def is_full(self) -> bool:
        """No more tokens are asked for, or none has room."""
        return self.length == len(self.tokens)

    @property
    def follows_grammar(self) -> bool:
        """The grammar holds for the next token."""
        return self.generation.grammar is not None and self._awaited is None

    @property
    def opening(self) -> int | None:
        """A token that may come next in spite of the grammar."""
        return None if self.predicted else self.generation.grammar_opening

    @property
    def is_decoding(self) -> bool:
        """It waits for its next token only."""
        return self.predicted > 0 and self.length - self.done == 1

    def is_over(self, now: float) -> bool:
        """It was cancelled, or has run out of time at ``now`` (``time.monotonic()``)."""
        deadline = self.generation.deadline
        return self.cancelled or (deadline is not None and deadline < now)

    def start(self) -> None:
        """Make room for the tokens; called once, when it is first admitted."""
        prompt = self.generation.tokens
        most = self.generation.max_tokens
        room = self.limit if most is None else min(self.limit, len(prompt) + max(1, most))
        self.tokens = np.empty(room, np.int32)
        self.tokens[: len(prompt)] = prompt
        self.length = len(prompt)
        self.cells = np.empty(room, np.int32)
        self.admitted = time.perf_counter()

    def add(self, token: int, now: float) -> None:
        """The next token of the reply, chosen at ``now``."""
        if not self.predicted:
            self.first = now
        self.last = now
        self.predicted += 1
        self.tokens[self.length] = token
        self.length += 1
        generation = self.generation
        if self.predicted == 1 and token == generation.grammar_opening and generation.grammar_after:
            self._awaited = generation.grammar_after.encode()

    def seen(self, piece: bytes) -> bytes:
        """Look for the text after which the grammar holds; returns the piece."""
        if self._awaited is not None:
            self._tail += piece
            if self._awaited in self._tail:
                self._awaited = None
            else:
                self._tail = self._tail[-len(self._awaited) :]
        return piece

    def outcome(self, stop: str | None, *, ended: bool) -> Outcome:
        """How it went; ``ended`` is false where a limit cut it off."""
        return Outcome(
            finish_reason="stop" if ended else "length",
            stop=stop,
            prompt_tokens=self.prompt_length,
            cached_tokens=self.cached,
            completion_tokens=self.predicted,
            seed=self.sampler.seed if self.sampler else 0,
            queued_ms=(self.admitted - self.arrived) * 1e3,
            prompt_ms=(self.first - self.admitted) * 1e3,
            predicted_ms=(self.last - self.first) * 1e3,
            preempted=self.preempted,
        )
