"""Messages in, prompt tokens out.

:class:`PromptBuilder` checks messages and tools in OpenAI's form, renders them with the chat template that
:func:`find_template` found, and tokenizes the result so that no text of the caller becomes a special token.
"""

from __future__ import annotations

from .find import find_template, template_names
from .marks import IMAGE
from .messages import Conversation, Message, Messages, ToolCall, normalise
from .prompt import Prompt, PromptBuilder
from .template import ChatTemplate
from .tokens import PromptTokenizer
from .tools import Tool, normalise_tools

__all__ = [
    "IMAGE",
    "ChatTemplate",
    "Conversation",
    "Message",
    "Messages",
    "Prompt",
    "PromptBuilder",
    "PromptTokenizer",
    "Tool",
    "ToolCall",
    "find_template",
    "normalise",
    "normalise_tools",
    "template_names",
]
