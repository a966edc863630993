"""How a model's replies are marked up, read off its chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ReplyFormat", "ToolFormat", "detect_format"]

ToolFormat = Literal["seed_oss", "hermes", "qwen_xml", "llama3"]

_SEED_THINK = ("<seed:think>", "</seed:think>")
_SEED_EXTRA = ("<seed:tool_call>", "</seed:tool_call>", "<seed:cot_budget_reflect>", "</seed:cot_budget_reflect>")
_THINK = ("<think>", "</think>")
_TOOL_CALL = ("<tool_call>", "</tool_call>")


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """The marks in a model's replies.

    Attributes:
        reasoning: what opens and closes the reasoning, or None.
        tools: how tool calls are written, or None where that is not known.
        visible: marks that are special tokens in some vocabularies; their text must reach the parser.
    """

    reasoning: tuple[str, str] | None = None
    tools: ToolFormat | None = None
    visible: tuple[str, ...] = ()


def detect_format(template_source: str | None) -> ReplyFormat:
    """The format that a chat template speaks of.

    Args:
        template_source: the Jinja source; None where the model has no template.

    Returns:
        The format; what the template does not mention, or marks that are not known here, is None in it.
    """
    source = template_source or ""
    if "<seed:think>" in source:
        # The template builds the closing marks from variables in some releases; the model writes them all the same.
        return ReplyFormat(_SEED_THINK, "seed_oss", _SEED_THINK + _SEED_EXTRA)
    # Many templates only mention the closing mark, to cut reasoning out of earlier turns.
    reasoning = _THINK if "</think>" in source else None
    tools = _tools(source)
    visible: tuple[str, ...] = reasoning or ()
    if tools in ("hermes", "qwen_xml"):
        visible += _TOOL_CALL
    elif tools == "llama3":
        visible += ("<|python_tag|>",)
    return ReplyFormat(reasoning, tools, visible)


def _tools(source: str) -> ToolFormat | None:
    plain = source.replace("\\", "")  # Jinja strings hold quotes with backslashes
    if "<tool_call>" in plain:
        if "<function=" in plain and "<parameter=" in plain:
            return "qwen_xml"
        # Others write <arg_key>, <invoke> or a list in <tool_calls> where Hermes writes one JSON object.
        foreign = any(mark in plain for mark in ("<arg_key>", "<invoke", "<tool_calls>"))
        return "hermes" if '"name"' in plain and '"arguments"' in plain and not foreign else None
    if "ipython" in plain and '"parameters":' in plain and "<function=" not in plain:
        return "llama3"
    return None
