"""A model's reply: its parts are the same however it arrives, and together they hold its text."""

from __future__ import annotations

import json

from fastinfer.replies.formats import ReplyFormat
from fastinfer.replies.parser import Part, ReasoningPart, ReplyParser, TextPart, ToolCallPart, parse_reply
from fastinfer.replies.text import ReplyText

__all__ = ["WORDS", "check", "seeds"]

_THINK = ("<think>", "</think>")
_SEED = ("<seed:think>", "</seed:think>")
_BUDGET = ("<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>")
FORMATS = (
    *(ReplyFormat(), ReplyFormat(_THINK), ReplyFormat(_THINK, "hermes"), ReplyFormat(_THINK, "qwen_xml")),
    *(ReplyFormat(_SEED, "seed_oss"), ReplyFormat(None, "llama3"), ReplyFormat(_THINK, "llama3")),
)
_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "parameters": {"properties": {name[0]: {"type": name} for name in _TYPES}}},
    }
]
WORDS = tuple(
    text.encode()
    for text in (
        *(*_THINK, *_SEED, *_BUDGET, "<tool_call>", "</tool_call>", "<seed:tool_call>", "</seed:tool_call>"),
        *("<function=f>", "</function>", "<parameter=i>", "<parameter=o>", "</parameter>", "<|python_tag|>", "; "),
        *('{"name": "f", "arguments": {"a": "', '"}}', '{"name"', '"parameters"', "1e999", "NaN", "\\u0000", "\\ud800"),
        *("True", "None", "[" * 40, " ", "\n", "\t", "é", "\u2028"),
    )
)


def seeds() -> list[bytes]:
    """Replies in every format; the first bytes choose it and where the reply is cut."""
    texts = (
        "<think>\nLet me see.\n</think>\n\nHello.\n",
        '<think>a</think><tool_call>\n{"name": "f", "arguments": {"s": "x</tool_call>"}}\n</tool_call> and <b>',
        "<tool_call>\n<function=f>\n<parameter=i>\n3\n</parameter>\n<parameter=o>{}</parameter>\n</function></tool_call>",
        "<seed:think>a<seed:cot_budget_reflect>1 of 2</seed:cot_budget_reflect>b</seed:think><seed:tool_call>"
        "<function=f><parameter=b>True</parameter></function></seed:tool_call>",
        '<|python_tag|>{"name": "f", "parameters": {"a": [1, 2.5, null]}}; {"name": "f", "arguments": "{}"} Done.',
    )
    return [bytes((number, 3 + number, 5)) + text.encode() for number in range(len(FORMATS)) for text in texts]


def check(data: bytes) -> None:
    """At once and in pieces are the same; all parts, but for white space and marks of reasoning, are the reply."""
    if len(data) < 3:
        return
    form = FORMATS[data[0] % len(FORMATS)]
    in_reasoning, with_tools = bool(data[0] & 64), not data[0] & 128
    body, sizes = data[3:], (1 + data[1] % 16, 1 + data[2] % 16)
    text = _decoded(body, sizes)
    tools = _TOOLS if with_tools else False
    parser = ReplyParser(form, in_reasoning=in_reasoning, tools=tools)
    parts: list[Part] = []
    at = number = 0
    while at < len(text):
        parts += parser.push(text[at : at + sizes[number % 2]])
        at, number = at + sizes[number % 2], number + 1
    parts += parser.finish()
    reply = parse_reply(text, form, in_reasoning=in_reasoning, tools=tools)
    assert reply.text == "".join(part.text for part in parts if isinstance(part, TextPart))
    assert (reply.reasoning or "") == "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    calls = tuple(part.call for part in parts if isinstance(part, ToolCallPart))
    assert reply.tool_calls == calls
    for number, call in enumerate(calls):
        assert call.id == f"call_{number}"
        assert call.name
        # Finite numbers and texts: whoever called the tool can send it on as JSON.
        json.dumps(call.arguments, allow_nan=False)
    assert _bare("".join(_said(part) for part in parts), form) == _bare(text, form)


def _decoded(body: bytes, sizes: tuple[int, int]) -> str:
    """The text of the bytes, which do not depend on how they arrive either."""
    whole = ReplyText()
    text = whole.push(body) + whole.finish()
    pieces = ReplyText()
    step = max(sizes)
    again = "".join(pieces.push(body[at : at + step]) for at in range(0, len(body), step)) + pieces.finish()
    assert again == text
    return text


def _said(part: Part) -> str:
    return part.call.raw if isinstance(part, ToolCallPart) else part.text


def _bare(text: str, form: ReplyFormat) -> str:
    """Without white space, marks of reasoning, and the semicolons between Llama's calls.

    Removed as long as there are any: where a mark stood within another one, the parser leaves what is left of that.
    """
    text = "".join(text.split()).replace(";", "")
    before = ""
    while before != text:
        before = text
        for mark in (*(form.reasoning or ()), *_BUDGET):
            text = text.replace(mark, "")
    return text
