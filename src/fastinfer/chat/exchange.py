"""One chat from messages to reply: what happens before the engine and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal

from fastinfer.chat.options import Settings
from fastinfer.chat.results import ChatTimings, Finish, Piece, Reply, Usage
from fastinfer.engines.chat import Delta, Generation, Outcome, TokenLogprob
from fastinfer.errors import SchemaError
from fastinfer.prompts import Prompt
from fastinfer.provenance import Provenance
from fastinfer.replies import Part, ReasoningPart, ReplyFormat, ReplyParser, TextPart, ToolCall, ToolCallPart

__all__ = ["Exchange", "generation_for"]


def generation_for(
    prompt: Prompt, settings: Settings, form: ReplyFormat, stop: tuple[str, ...], opening: int | None
) -> Generation:
    """What the engine is asked for; its time runs from now on.

    Args:
        prompt, settings, form: what was asked, and how the model marks its replies.
        stop: strings that end a reply with this template.
        opening: the token that opens the reasoning, or None where it is no single token.
    """
    # A grammar is for the answer; what the model thinks before it is free.
    state = _reasoning(prompt, form)
    may_open = settings.grammar is not None and state == "free" and opening is not None
    thinks = settings.grammar is not None and (state == "open" or may_open)
    return Generation(
        tokens=prompt.tokens,
        sampling=settings.sampling,
        max_tokens=settings.max_tokens,
        stop=settings.stop + stop,
        grammar=settings.grammar,
        grammar_after=form.reasoning[1] if thinks and form.reasoning else None,
        grammar_opening=opening if may_open else None,
        logprobs=settings.logprobs,
        deadline=None if settings.timeout is None else time.monotonic() + settings.timeout,
    )


def _reasoning(prompt: Prompt, form: ReplyFormat) -> Literal["open", "closed", "free"]:
    """Where the template leaves the model: within reasoning that has begun, after it, or free to begin it."""
    if form.reasoning is None:
        return "closed"
    opened, closed = (prompt.generation_prompt.rfind(mark) for mark in form.reasoning)
    return "free" if opened == closed else "open" if opened > closed else "closed"


class Exchange:
    """A reply as it comes in: its pieces, and the whole at the end.

    Args:
        prompt, settings, form: what was asked, and how the model marks its replies.
        provenance: what runs.
    """

    def __init__(self, prompt: Prompt, settings: Settings, form: ReplyFormat, provenance: Provenance) -> None:
        self._settings, self._provenance = settings, provenance
        # An answer that follows a schema may look like a call, and is none.
        tools = settings.tools if settings.schema is None else ()
        self._parser = ReplyParser(form, in_reasoning=_reasoning(prompt, form) == "open", tools=tools or False)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._logprobs: list[TokenLogprob] = []

    def add(self, delta: Delta) -> Iterator[Piece]:
        """Pieces that become certain with more of the reply."""
        self._logprobs += delta.logprobs
        if delta.text:
            yield from self._pieces(self._parser.push(delta.text))

    def rest(self) -> Iterator[Piece]:
        """Pieces that were held back."""
        yield from self._pieces(self._parser.finish())

    def reply(self, outcome: Outcome) -> Reply:
        """The whole reply.

        Raises:
            SchemaError: it does not follow the schema that was asked for, because it was cut short.
        """
        finish: Finish = outcome.finish_reason
        if self._calls and finish == "stop":
            finish = "tool_calls"
        seconds = outcome.predicted_ms / 1e3
        return self._reply(
            finish,
            Usage(outcome.prompt_tokens, outcome.cached_tokens, outcome.completion_tokens),
            ChatTimings(
                outcome.queued_ms,
                outcome.prompt_ms,
                outcome.predicted_ms,
                (outcome.completion_tokens - 1) / seconds if seconds else 0.0,
            ),
            outcome.seed,
            self._parsed(outcome),
        )

    def whole(self, deltas: Sequence[Delta], outcome: Outcome) -> Reply:
        """The whole reply from all of its deltas at once; raises like :meth:`reply`."""
        everything = Delta("".join(d.text for d in deltas), tuple(p for d in deltas for p in d.logprobs))
        for pieces in (self.add(everything), self.rest()):
            for _ in pieces:
                pass
        return self.reply(outcome)

    def cancelled(self) -> Reply:
        """What there was when it was cancelled."""
        return self._reply("cancelled", Usage(), ChatTimings(), None)

    def _reply(
        self, finish: Finish, usage: Usage, timings: ChatTimings, seed: int | None, parsed: object = None
    ) -> Reply:
        return Reply(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=finish,
            usage=usage,
            timings=timings,
            tool_calls=tuple(self._calls),
            parsed=parsed,
            logprobs=tuple(self._logprobs) if self._settings.logprobs is not None else None,
            seed=seed,
            provenance=self._provenance,
        )

    def _parsed(self, outcome: Outcome) -> object:
        schema = self._settings.schema
        if schema is None:
            return None
        text = "".join(self._text)
        try:
            return schema.parse(text)
        except SchemaError as error:
            end = f": {text[-80:]!r}" if text else ""
            if outcome.finish_reason == "length":
                raise SchemaError(
                    f"The reply ended after {outcome.completion_tokens} tokens, before it was complete{end}.",
                    hint="Raise max_tokens, or ask for less.",
                ) from error
            if outcome.stop is not None:
                raise SchemaError(
                    f"The stop string {outcome.stop!r} ended the reply before it was complete{end}.",
                    hint="Leave it out: with a schema the reply ends by itself.",
                ) from error
            raise

    def _pieces(self, parts: list[Part]) -> Iterator[Piece]:
        for part in parts:
            if isinstance(part, TextPart):
                self._text.append(part.text)
                yield Piece(part.text)
            elif isinstance(part, ReasoningPart):
                self._reasoning.append(part.text)
                yield Piece(part.text, "reasoning")
            elif isinstance(part, ToolCallPart):
                self._calls.append(part.call)
                yield Piece("", "tool_call", part.call)
