"""From generated pieces to what the user reads.

:class:`ReplyText` makes text of bytes and ends it at a stop string, :class:`ReplyParser` takes that apart into answer,
reasoning and tool calls as it arrives, and :func:`compile_schema` turns a JSON schema or a pydantic type into a grammar
to write by and a way to read. No engine is imported.
"""

from __future__ import annotations

from .calls import ToolCall
from .formats import ReplyFormat, detect_format
from .parser import ParsedReply, Part, ReasoningPart, ReplyParser, TextPart, ToolCallPart, parse_reply
from .schema import CompiledSchema, check_gbnf, compile_schema
from .text import ReplyText

__all__ = [
    "CompiledSchema",
    "ParsedReply",
    "Part",
    "ReasoningPart",
    "ReplyFormat",
    "ReplyParser",
    "ReplyText",
    "TextPart",
    "ToolCall",
    "ToolCallPart",
    "check_gbnf",
    "compile_schema",
    "detect_format",
    "parse_reply",
]
