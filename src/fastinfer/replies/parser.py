"""A reply taken apart as it arrives: what is said, the reasoning before it, calls of tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastinfer.replies.calls import BadCall, ToolCall, ToolTypes, UnfinishedCall, read_call
from fastinfer.replies.formats import ReplyFormat
from fastinfer.replies.scout import WHITESPACE, ObjectScout
from fastinfer.replies.seek import Seeker

__all__ = ["ParsedReply", "Part", "ReasoningPart", "ReplyParser", "TextPart", "ToolCallPart", "parse_reply"]

_BUDGET = ("<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>")
_PYTHON_TAG = "<|python_tag|>"
_CALL_MARKS = {
    "seed_oss": ("<seed:tool_call>", "</seed:tool_call>"),
    "hermes": ("<tool_call>", "</tool_call>"),
    "qwen_xml": ("<tool_call>", "</tool_call>"),
}


@dataclass(frozen=True, slots=True)
class TextPart:
    """More of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A complete call."""

    call: ToolCall


Part = TextPart | ReasoningPart | ToolCallPart


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A whole reply.

    Attributes:
        text: the answer; ``""`` where there is none.
        reasoning: None where there is none.
        tool_calls: in the order in which the model made them.
    """

    text: str
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]


class _Channel:
    """A strand of text whose white space at the end waits: it goes if a mark follows, and stays if text does."""

    __slots__ = ("said", "space", "strip")

    def __init__(self) -> None:
        self.said = False
        self.strip = False  # white space at the beginning of what comes next goes
        self.space = ""

    def feed(self, text: str) -> str:
        if self.strip:
            text = text.lstrip(WHITESPACE)
        if not text:
            return ""
        self.strip = False
        text = self.space + text
        kept = text.rstrip(WHITESPACE)
        self.space = text[len(kept) :]
        self.said = self.said or bool(kept)
        return kept


class ReplyParser:
    """Takes a reply in pieces and returns its parts as soon as they are certain.

    The parts, merged, do not depend on how the reply was cut into pieces. Reasoning is stripped at both ends, and
    white space between it or a call and the answer goes. A call that cannot be read comes back as text.

    Args:
        form: how the model marks its replies.
        in_reasoning: the prompt has already opened the reasoning.
        tools: whether calls are looked for; the tools themselves (OpenAI dicts) give the types of parameters in
            formats that write values as plain text.
    """

    def __init__(
        self, form: ReplyFormat, *, in_reasoning: bool = False, tools: bool | Sequence[Mapping[str, Any]] = False
    ) -> None:
        self._tools = form.tools if tools else None
        self._types = ToolTypes(tools if not isinstance(tools, bool) else ())
        self._open, self._close = form.reasoning or ("", "")
        self._call_open, self._call_close = _CALL_MARKS.get(self._tools or "", ("", ""))
        tag = _PYTHON_TAG if self._tools == "llama3" else ""
        self._in_text = Seeker((self._open, self._close, self._call_open, tag))
        self._in_reasoning = Seeker((self._open, self._close, *_BUDGET))
        self._text, self._reasoning = _Channel(), _Channel()
        self._reasoning.strip = True
        self._scout: tuple[int, ObjectScout] | None = None
        self._looked = 0  # up to here no closing mark of the call is, or only such as are inside a value
        self._buffer = ""
        self._calls = 0
        self._parts: list[Part] = []
        self._state: Literal["start", "text", "reasoning", "call"] = "start"
        if in_reasoning and form.reasoning:
            self._state = "reasoning"

    def push(self, text: str) -> list[Part]:
        """The parts that ``text`` completes; neighbours are of different kinds."""
        return self._run(text, final=False)

    def finish(self) -> list[Part]:
        """What was held back. Nothing follows."""
        parts = self._run("", final=True)
        # White space at the very end belongs to the answer only if it follows it.
        if self._state == "reasoning" or self._text.strip or not self._text.space:
            return parts
        self._add(TextPart(self._text.space))
        self._text.space = ""
        return self._taken(parts)

    def _taken(self, before: list[Part]) -> list[Part]:
        after, self._parts = self._parts, []
        for part in after:
            _merge(before, part)
        return before

    def _run(self, text: str, *, final: bool) -> list[Part]:
        self._buffer += text
        steps = {"start": self._at_start, "text": self._say, "reasoning": self._think, "call": self._call}
        while steps[self._state](final):
            pass
        parts, self._parts = self._parts, []
        return parts

    # Each step returns whether the state has changed, so that there is more to do.

    def _say(self, final: bool) -> bool:
        place, word = self._in_text.find(self._buffer, final=final)
        self._add(TextPart(self._text.feed(self._buffer[:place])))
        self._buffer = self._buffer[place + len(word or "") :]
        if word is None:
            return False
        if word == self._open:
            self._leave_text("reasoning")
            self._reasoning.strip = True
            # Reasoning in two places is two paragraphs.
            self._reasoning.space = "\n\n" if self._reasoning.said else ""
        elif word == _PYTHON_TAG:
            self._buffer = word + self._buffer
            self._state = "start"
        elif word == self._call_open:
            self._state = "call"
            self._looked = 0
        return True  # a closing mark with nothing to close is dropped

    def _think(self, final: bool) -> bool:
        place, word = self._in_reasoning.find(self._buffer, final=final)
        self._add(ReasoningPart(self._reasoning.feed(self._buffer[:place])))
        self._buffer = self._buffer[place + len(word or "") :]
        if word == self._close:
            self._leave_text("text" if self._text.said else "start")
        return word is not None

    def _call(self, final: bool) -> bool:
        end = self._buffer.find(self._call_close, self._looked)
        if end < 0:
            self._looked = max(self._looked, len(self._buffer) - len(self._call_close) + 1)
            if final:
                self._end_unclosed_call()
            return final
        after = end + len(self._call_close)
        try:
            self._found(self._call_open, self._buffer[:end], self._call_close)
        except UnfinishedCall:
            self._looked = after
        except BadCall:
            self._no_call()
        else:
            self._buffer = self._buffer[after:]
            self._state = "text"
        return True

    def _end_unclosed_call(self) -> None:
        if self._call_close in self._buffer:
            self._no_call()
            return
        try:
            # Models leave out the closing mark where the end of the reply says as much.
            self._found(self._call_open, self._buffer, "")
            self._buffer = ""
        except BadCall:
            self._no_call()
        self._state = "text"

    def _no_call(self) -> None:
        """What was taken for a call, up to its first closing mark, is text."""
        end = self._buffer.find(self._call_close)
        after = end + len(self._call_close) if end >= 0 else len(self._buffer)
        self._text.strip = False
        self._add(TextPart(self._text.feed(self._call_open + self._buffer[:after])))
        self._buffer = self._buffer[after:]
        self._state = "text"

    def _at_start(self, final: bool) -> bool:
        """Where Llama 3 may write a call, which has no marks of its own: before anything is said, or after a call."""
        if self._tools != "llama3":
            self._state = "text"
            return True
        if self._scout is None:
            begin = len(self._buffer) - len(self._buffer.lstrip(WHITESPACE + (";" if self._calls else "")))
            rest = self._buffer[begin:]
            if not final and _PYTHON_TAG.startswith(rest):
                return False
            begin += len(_PYTHON_TAG) if rest.startswith(_PYTHON_TAG) else 0
            self._scout = begin, ObjectScout(begin)
        begin, scout = self._scout
        end = scout.read(self._buffer)
        if end == 0 and not final:
            return False
        self._scout = None
        if end:
            try:
                self._found(self._buffer[:begin].lstrip(WHITESPACE + ";"), self._buffer[begin:end], "")
                self._buffer = self._buffer[end:]
                return True
            except BadCall:
                pass
        if self._buffer[:begin].endswith(_PYTHON_TAG):  # what it announced is no call: the tag is text
            self._add(TextPart(self._text.feed(self._buffer[:begin])))
            self._buffer = self._buffer[begin:]
        self._state = "text"
        return True

    def _found(self, before: str, body: str, after: str) -> None:
        assert self._tools is not None
        name, arguments = read_call(body, self._tools, self._types)
        call = ToolCall(f"call_{self._calls}", name, arguments, before + body + after)
        self._calls += 1
        self._add(ToolCallPart(call))
        self._leave_text(self._state)

    def _leave_text(self, state: Literal["start", "text", "reasoning", "call"]) -> None:
        self._state = state
        self._text.strip = True
        if not self._text.said:
            self._text.space = ""

    def _add(self, part: Part) -> None:
        if isinstance(part, ToolCallPart) or part.text:
            _merge(self._parts, part)


def _merge(parts: list[Part], part: Part) -> None:
    """Append a part, or lengthen the last one if it is of the same kind."""
    last = parts[-1] if parts else None
    if isinstance(part, TextPart) and isinstance(last, TextPart):
        parts[-1] = TextPart(last.text + part.text)
    elif isinstance(part, ReasoningPart) and isinstance(last, ReasoningPart):
        parts[-1] = ReasoningPart(last.text + part.text)
    else:
        parts.append(part)


def parse_reply(
    text: str,
    form: ReplyFormat,
    *,
    in_reasoning: bool = False,
    tools: bool | Sequence[Mapping[str, Any]] = False,
) -> ParsedReply:
    """A complete reply taken apart; the arguments are those of :class:`ReplyParser`."""
    parser = ReplyParser(form, in_reasoning=in_reasoning, tools=tools)
    parts = parser.push(text) + parser.finish()
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    return ParsedReply(
        text="".join(part.text for part in parts if isinstance(part, TextPart)),
        reasoning=reasoning or None,
        tool_calls=tuple(part.call for part in parts if isinstance(part, ToolCallPart)),
    )
