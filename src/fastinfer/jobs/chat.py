"""The work of a batch of chats: requests in OpenAI's format, responses in the same order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastinfer.chat.options import ChatOptions
from fastinfer.chat.request import ChatRequest
from fastinfer.errors import FastInferError, MessageError, RequestTimeoutError, SchemaError, raise_if_fatal
from fastinfer.jobs.configuration import configuration
from fastinfer.jobs.openai_batch import (
    Batch,
    BatchLine,
    answer,
    canonical,
    digest,
    output_line,
    read_request,
    refusal,
    unanswered,
)
from fastinfer.jobs.work import Computed, Cost, Entry, Known, Outcome

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM
    from fastinfer.chat.results import Reply

__all__ = ["FORMATS", "ChatWork"]

_log = logging.getLogger(__name__)

#: The forms that the output of a batch may have.
FORMATS: Final = (".jsonl",)


class _Named(NamedTuple):
    """A request, and 32 hexadecimal digits that stand for what it asks."""

    name: str
    request: ChatRequest


class ChatWork:
    """Requests of a batch file, answered by a chat model; see :class:`fastinfer.jobs.work.Work`.

    All slots are kept busy, and every request has its own options. A request without a seed gets one that is derived
    from its content: requests that are the same are computed once and answered alike, and a job that was interrupted
    draws what it would have drawn.

    How exact that is: a request decides its reply as long as the model's scores are the same to the last bit. What
    shares a batch with it, and what of another conversation the KV cache still holds, can change that bit, and with
    it, rarely, a token and all that follow. With one slot (``parallel=1``) nothing shares its batches. Where
    ``cache_reuse`` is above 0, stretches of other conversations are moved to another place, which changes more than a
    bit: set it to 0 where that matters. What the journal has never changes.

    Args:
        llm: what answers; stays open.
        batch: the requests.
        options: plain values that hold where a request leaves them out.
        system: a system message for conversations that have none.

    Raises:
        PresetError: an option is outside its range.
    """

    kind: Final = "chat"
    unit: Final = "request"
    group: Final = 1
    decode_workers: Final = 0

    def __init__(
        self,
        llm: LLM,
        batch: Batch,
        *,
        options: ChatOptions | None = None,
        system: str | None = None,
    ) -> None:
        self._llm, self._batch, self._system = llm, batch, system
        self._options = ChatRequest((), options or ChatOptions()).options_over(ChatOptions())
        llm.chat_many((), **self._options)  # refuses values that are out of range
        self.provenance = llm.provenance
        self.configuration = configuration(
            self.kind, llm.preset, llm.provenance, options=dict(self._options), system=system
        )
        self._has_said_model = False
        self._engine_ms = self._prefill_ms = 0.0

    def __len__(self) -> int:
        """How many lines there are, those that are wrong included."""
        return len(self._batch)

    def entries(self, known: Known) -> Generator[Entry[_Named], None, None]:
        """Every line in order. One that is no request has a failure in its place, and is tried again the next time."""
        with closing(self._batch.lines()) as lines:
            yield from map(self._entry, lines)

    def compute(self, payloads: Iterator[_Named]) -> Generator[Computed, None, None]:
        """The replies in the order of the requests."""
        asked: deque[_Named] = deque()

        def requests() -> Iterator[ChatRequest]:
            for named in payloads:
                asked.append(named)
                yield named.request

        self._engine_ms, self._prefill_ms = self._times()
        for reply in self._llm.chat_many(requests(), errors="return"):
            raise_if_fatal(reply.error)
            yield Computed(self._outcome(asked.popleft(), reply), self._cost(reply))

    def finish(self, place: int, row: dict[str, Any]) -> dict[str, Any]:
        """The line of the output: what became of the request, under its id."""
        return output_line(*self._batch.name(place), row)

    def _entry(self, line: BatchLine) -> Entry[_Named]:
        if line.body is None:
            return Entry(None, failure=Outcome(unanswered(line.code, line.message), MessageError.__name__))
        self._look_at_model(line.number, line.body.get("model"))
        try:
            request = read_request(line.body, self._options, system=self._system)
        except FastInferError as error:
            return Entry(None, failure=Outcome(refusal(error), type(error).__name__))
        name = digest(canonical(request.messages, request.options))
        return Entry(bytes.fromhex(name), _Named(name, request))

    def _look_at_model(self, number: int, model: object) -> None:
        """Say once that requests name another model than the one that answers them."""
        answering = self.provenance.model
        if not self._has_said_model and isinstance(model, str) and model != answering:
            self._has_said_model = True
            _log.warning("Line %d of %s names the model %r; %r answers.", number, self._batch.path, model, answering)

    def _outcome(self, asked: _Named, reply: Reply) -> Outcome:
        error = reply.error
        if error is None:
            model, key = self.provenance.model, self.configuration.key
            return Outcome(answer(reply, model=model, request=asked.name, configuration=key))
        row = refusal(error)
        if isinstance(error, RequestTimeoutError):
            row = unanswered("request_timeout", str(error))
        elif isinstance(error, SchemaError) and "schema" in asked.request.options:
            # The schema was compiled before: it is the reply that does not follow it.
            row = unanswered("incomplete_reply", str(error))
        return Outcome(row, type(error).__name__)

    def _cost(self, reply: Reply) -> Cost:
        """What the engine has done since the last reply; requests share its steps."""
        engine_ms, prefill_ms = self._times()
        cost = Cost(
            queued_ms=reply.timings.queued_ms,
            engine_ms=engine_ms - self._engine_ms,
            prefill_ms=prefill_ms - self._prefill_ms,
        )
        self._engine_ms, self._prefill_ms = engine_ms, prefill_ms
        return cost

    def _times(self) -> tuple[float, float]:
        """The engine's milliseconds so far: all of its steps, and of these the prompts' share."""
        metrics = self._llm.metrics()
        prefill = metrics["llamacpp:prompt_seconds_total"]
        return (prefill + metrics["llamacpp:tokens_predicted_seconds_total"]) * 1e3, prefill * 1e3
