"""Chat in a process of its own: prompts and replies go through a socket, images through shared memory."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from fastinfer.engines.chat import (
    Delta,
    Generation,
    Outcome,
    PlacedImage,
    Sink,
    Ticket,
    TokenLogprob,
    Vocabulary,
)
from fastinfer.engines.chat_refusals import check_length, queue_full, queue_too_slow
from fastinfer.engines.isolated.calls import call
from fastinfer.engines.isolated.face import IsolatedEngine
from fastinfer.engines.isolated.failures import read_failure
from fastinfer.engines.isolated.memory import Arena
from fastinfer.engines.isolated.messages import encode
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.process import EngineProcess
from fastinfer.engines.isolated.request import Request
from fastinfer.engines.isolated.supervisor import Patience, Supervisor
from fastinfer.engines.isolated.vocabulary import IsolatedVocabulary
from fastinfer.engines.llama.chat.counters import Counters, Occupancy
from fastinfer.engines.tally import add_growth
from fastinfer.errors import (
    EngineDeadError,
    EngineError,
    RequestCancelledError,
    RequestTimeoutError,
)
from fastinfer.interrupts import undisturbed
from fastinfer.provenance import Adjustment

__all__ = ["IsolatedChatEngine"]

#: Seconds that a look at the engine's state may take; without an answer the last report counts.
_GLANCE: Final = 2.0


class IsolatedChatEngine(IsolatedEngine):
    """A :class:`fastinfer.engines.chat.ChatEngine` in another process, with the same replies and errors.

    Where that process dies, it is started again. Requests of whose replies nobody has seen anything are computed again,
    at most three times (twice where it hung), the last time alone; the others fail with EngineDeadError.

    Args:
        opener: opens the engine, over there.
        slots: conversations that it runs side by side.
        max_queue: requests that may wait.
        n_ctx: the parameter that limits prompts and replies.
        patience: how long things may take.

    Raises:
        FastInferError: what opening the engine raised.
        EngineDeadError: the process died of it.
    """

    def __init__(
        self, opener: Opener, *, slots: int, max_queue: int, n_ctx: int, patience: Patience | None = None
    ) -> None:
        self._images = Arena(1 << 40)  # as many as there are requests, which the queue limits
        super().__init__(opener, (self._images,), patience)
        self._slots, self._max_queue, self._n_ctx = slots, max_queue, n_ctx
        self._keys = itertools.count()
        self._counters = Counters()
        self._seen: dict[str, Any] = {}
        self._supervisor.report = weakref.WeakMethod(self._add)
        facts = self._start()
        self.name: str = facts["name"]
        self.limit: int = facts["limit"]
        self.takes_images: bool = facts["takes_images"]
        self.kernel_path: str = facts["kernel_path"]
        self.adjustments = tuple(Adjustment(*difference) for difference in facts["adjustments"])
        self._vocabulary = IsolatedVocabulary(self._supervisor, facts["vocabulary"], self._patience.load)
        self._occupancy = Occupancy(*facts["occupancy"])

    @contextmanager
    def vocabulary(self) -> Iterator[Vocabulary]:
        """The model's vocabulary.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        self.check_process()
        self._supervisor.life.check()
        yield self._vocabulary

    def show(self, tokens: Sequence[str]) -> None:
        """Let these special tokens be part of replies' text, such as ``"<think>"``; before the first request."""
        self.check_process()
        self._supervisor.life.check()
        self._supervisor.stand("show", {"op": "show", "tokens": list(tokens)})

    def place(self, generation: Generation, images: Sequence[PlacedImage]) -> Generation:
        """A generation with images in its prompt, preprocessed over there and now.

        Raises:
            ImageDecodeError: the model's preprocessing refuses an image.
            PromptTooLongError: the model has to see an image at once that takes more tokens than are computed at once.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        self.check_process()
        pictures = _Pictures(generation.tokens, images, self._images, next(self._keys))
        _, blob = call(
            self._supervisor, "place", pictures.body(), blob=pictures.text.tobytes(), timeout=self._patience.load
        )
        return replace(generation, tokens=np.frombuffer(blob, np.int32), images=pictures)

    def submit(self, generation: Generation, sink: Sink, *, wait: bool = False) -> Ticket:
        """Queue a generation; what becomes of it goes to the sink.

        Raises:
            MessageError: the prompt has no tokens.
            PromptTooLongError: the prompt leaves no room for a reply, however little else runs.
            QueueFullError: the queue is full, and ``wait`` is false.
            RequestTimeoutError: the queue was full until the deadline.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        self.check_process()
        check_length(len(generation.tokens), self.limit, self._n_ctx)
        most = self._slots + self._max_queue
        if wait:
            if not self._supervisor.wait_for_end(most, generation.deadline):
                raise queue_too_slow()
        elif self._supervisor.queued >= most:
            raise queue_full(self._max_queue)
        request = _Chat(generation, sink, self._counters)
        self._supervisor.ask(request)
        return _Ticket(self._supervisor, request)

    def slots(self) -> list[dict[str, Any]]:
        """What each slot does, under llama-server's field names."""
        idle = [{"id": index, "n_ctx": self.limit, "is_processing": False} for index in range(self._slots)]
        found: list[dict[str, Any]] = self._glance("slots", idle)
        return found

    def metrics(self) -> dict[str, float]:
        """Counters and gauges under llama-server's names."""
        processing, deferred = self._glance("load", (0, self._supervisor.queued))
        return self._counters.metrics(processing=processing, deferred=deferred)

    @property
    def counters(self) -> Counters:
        """What has been done so far, over all its processes; at most a second old."""
        return self._counters

    def occupancy(self) -> Occupancy:
        """Its slots, and how much of the KV cache is used."""
        return Occupancy(*self._glance("occupancy", (self._occupancy.slots, self._occupancy.cells, 0)))

    def profile(self) -> dict[str, float]:
        """Where the steps' time went: ``steps``, and seconds in llama.cpp and in all."""
        self.check_process()
        found: dict[str, float] = self._glance("profile", self._counters.profile(graphs_reused=0))
        return found

    def _glance(self, name: str, otherwise: Any) -> Any:
        """What the engine says of its state, or what is to be said where it does not answer."""
        life = self._supervisor.life
        if life.is_elsewhere or life.closed or life.dead is not None or not self._supervisor.is_running:
            return otherwise
        try:
            return call(self._supervisor, name, timeout=_GLANCE)[0]
        except (EngineError, RequestTimeoutError):
            return otherwise

    def _add(self, counters: dict[str, Any]) -> None:
        """A process reports what it has counted; one that has just started begins at nothing again."""
        if counters["pid"] != self._seen.get("pid"):
            self._seen = {}
        add_growth(self._counters, self._seen.get("counters"), counters["counters"])
        self._seen = counters


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A submitted request."""

    supervisor: Supervisor
    request: _Chat

    def cancel(self) -> None:
        """Drop it soon; its sink fails with RequestCancelledError. Idempotent, takes no lock."""
        if not self.request.is_over:
            self.supervisor.cancel(self.request.number)


class _Pictures:
    """Images of a prompt in the memory that the process sees, as long as this object exists."""

    def __init__(self, text: Any, images: Sequence[PlacedImage], arena: Arena, key: int) -> None:
        self.text, self.key = np.ascontiguousarray(text, np.int32), key
        self._places: list[dict[str, Any]] = []
        offsets: list[int] = []
        weakref.finalize(self, undisturbed, partial(_give_all, arena, offsets)).atexit = False
        for image in images:
            offset = arena.take(image.pixels.nbytes, always=True)
            if offset is None:
                raise EngineDeadError("The engine was closed.", hint="Create a new one.")
            offsets.append(offset)
            np.copyto(arena.array(offset, image.pixels.shape, np.uint8), image.pixels)
            self._places.append({"at": image.at, "offset": offset, "shape": image.pixels.shape})

    def body(self) -> dict[str, Any]:
        return {"key": self.key, "images": self._places}


def _give_all(arena: Arena, offsets: list[int]) -> None:
    for offset in offsets:
        arena.give_later(offset)


class _Chat(Request):
    is_queued = True

    def __init__(self, generation: Generation, sink: Sink, counters: Counters) -> None:
        super().__init__()
        self._generation, self._sink, self._counters = generation, sink, counters
        self.deadline = generation.deadline
        self._has_begun = False

    def prepare(self) -> bool:
        return True

    def message(self, process: EngineProcess) -> bytes:
        generation = self._generation
        pictures: _Pictures | None = generation.images
        sampling = asdict(generation.sampling)
        biases = sampling.pop("logit_bias")
        body = {
            "op": "generate",
            "id": self.number,
            "sampling": sampling,
            # JSON has no infinity, which forbids a token.
            "biases": [[token, repr(float(bias))] for token, bias in biases],
            "max_tokens": generation.max_tokens,
            "stop": generation.stop,
            "grammar": generation.grammar,
            "grammar_after": generation.grammar_after,
            "grammar_opening": generation.grammar_opening,
            "logprobs": generation.logprobs,
            # The clock is that of the machine, so the other process reads the same.
            "deadline": generation.deadline,
            "pictures": None if pictures is None else pictures.body(),
            "whole": self._sink.whole,
        }
        text = generation.tokens if pictures is None else pictures.text
        return encode(body, np.ascontiguousarray(text, np.int32).tobytes())

    def take(self, body: dict[str, Any], blob: bytes) -> bool:
        for text, logprobs in body.get("deltas", ()):
            self._has_begun = True
            self._sink.put(Delta(text, tuple(map(_logprob, logprobs))))
        if "outcome" in body:
            self._sink.finish(Outcome(**body["outcome"]))
        elif "error" in body:
            self._sink.fail(read_failure(body["error"]))
        elif "deltas" in body:
            return False
        else:
            self._counters.cancelled += 1
            self._sink.fail(RequestCancelledError("The request was cancelled before it was begun."))
        return True

    @property
    def is_repeatable(self) -> bool:
        return not self._has_begun

    def fail(self, error: Exception) -> None:
        self._counters.failed += 1
        self._counters.errors.add(error)
        self._sink.fail(error)

    def release(self) -> None:
        """The images go with the generation."""
        self._generation = replace(self._generation, images=None)


def _logprob(entry: list[Any]) -> TokenLogprob:
    token, data, logprob, top = entry
    return TokenLogprob(token, bytes(data), _number(logprob), tuple((text, _number(p)) for text, p in top))


def _number(value: float | None) -> float:
    # JSON has no infinity; a probability of nothing comes as null.
    return float("-inf") if value is None else value
