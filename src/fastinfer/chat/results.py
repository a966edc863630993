"""What comes back from a chat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fastinfer.engines.chat import TokenLogprob
from fastinfer.errors import FastInferError
from fastinfer.provenance import Provenance
from fastinfer.replies import ToolCall

__all__ = ["ChatTimings", "Piece", "Reply", "Usage", "json_value"]

Finish = Literal["stop", "length", "tool_calls", "cancelled", "error"]
Kind = Literal["text", "reasoning", "tool_call"]


class Piece(str):
    """A piece of a streamed reply: the text itself, so that ``print(piece, end="")`` shows the answer.

    Attributes:
        kind: ``"text"``; ``"reasoning"`` for what the model thinks before it answers; ``"tool_call"`` for a call, whose
            text is empty.
        tool_call: the call of a piece of that kind, else None.
    """

    __slots__ = ("kind", "tool_call")
    kind: Kind
    tool_call: ToolCall | None

    def __new__(cls, text: str, kind: Kind = "text", tool_call: ToolCall | None = None) -> Piece:
        """A piece with this text."""
        piece = super().__new__(cls, text)
        piece.kind, piece.tool_call = kind, tool_call
        return piece

    def __reduce__(self) -> tuple[object, ...]:
        return (Piece, (str(self), self.kind, self.tool_call))


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a chat.

    Attributes:
        prompt_tokens: the rendered conversation's.
        cached_tokens: of these, taken over from a conversation that was kept or is running.
        completion_tokens: generated, reasoning and the token that ends the reply included.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class ChatTimings:
    """Where the time went, in milliseconds.

    Attributes:
        queued_ms: waiting for a slot.
        prompt_ms: from the slot to the first token.
        predicted_ms: from the first token to the last.
        tokens_per_second: generated tokens after the first, by ``predicted_ms``; 0 where there is one only.
    """

    queued_ms: float = 0.0
    prompt_ms: float = 0.0
    predicted_ms: float = 0.0
    tokens_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a conversation.

    Attributes:
        text: the answer, without reasoning and tool calls.
        reasoning: what the model thought before, "" where it did not.
        finish_reason: ``"stop"``; ``"length"`` where ``max_tokens`` or the context ended it; ``"tool_calls"`` where it
            asks for tools; ``"cancelled"`` where its stream was closed early; ``"error"``.
        usage, timings: tokens and milliseconds; zeros where it was cancelled or failed.
        tool_calls: calls the model asks for, in order.
        parsed: the answer as the ``schema`` asked for has it, else None.
        logprobs: of each token, reasoning and the one that ends the reply included, where they were asked for.
        seed: reproduces the reply, given the same prompt and options; None where it was cancelled or failed.
        provenance: what ran.
        error: what went wrong, in results of ``chat_many(..., errors="return")``, without a traceback; else None.
    """

    text: str
    reasoning: str = ""
    finish_reason: Finish = "stop"
    usage: Usage = field(default_factory=Usage)
    timings: ChatTimings = field(default_factory=ChatTimings)
    tool_calls: tuple[ToolCall, ...] = ()
    parsed: Any = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    seed: int | None = None
    provenance: Provenance | None = None
    error: FastInferError | None = None

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from fastinfer.tables.display import reply_report

        return reply_report(self).as_html()

    def __rich__(self) -> object:
        from fastinfer.tables.display import reply_report

        return reply_report(self).as_rich()

    @property
    def ok(self) -> bool:
        """There is no error."""
        return self.error is None

    @property
    def message(self) -> dict[str, Any]:
        """The reply as a message, to be appended to the conversation for its next turn."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        return message

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        logprobs = None
        if self.logprobs is not None:
            logprobs = [
                {"token": p.token, "bytes": list(p.bytes), "logprob": p.logprob, "top": [list(t) for t in p.top]}
                for p in self.logprobs
            ]
        return {
            "text": self.text,
            "reasoning": self.reasoning,
            "finish_reason": self.finish_reason,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "cached_tokens": self.usage.cached_tokens,
                "completion_tokens": self.usage.completion_tokens,
                "total_tokens": self.usage.total_tokens,
            },
            "timings": {
                "queued_ms": self.timings.queued_ms,
                "prompt_ms": self.timings.prompt_ms,
                "predicted_ms": self.timings.predicted_ms,
                "tokens_per_second": self.timings.tokens_per_second,
            },
            "tool_calls": [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in self.tool_calls],
            "parsed": json_value(self.parsed),
            "logprobs": logprobs,
            "seed": self.seed,
            "model": self.provenance.model if self.provenance else None,
            "error": None if self.error is None else {"type": type(self.error).__name__, "message": str(self.error)},
        }


def json_value(parsed: object) -> Any:
    """What a schema made of a reply, as plain values that JSON can hold."""
    from pydantic_core import to_jsonable_python  # here, since results are imported with less

    try:
        return to_jsonable_python(parsed)
    except UnicodeEncodeError:
        # Lone surrogates in an object's keys, which only a JSON schema lets through: then all of it is plain JSON.
        return parsed
