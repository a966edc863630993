"""A conversation with options of its own, among many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from fastinfer.chat.options import ChatOptions, check_names

if TYPE_CHECKING:
    from fastinfer.prompts import Messages

__all__ = ["ChatRequest"]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation for ``chat_many`` that has options of its own.

    Attributes:
        messages: OpenAI's message dicts, or a str for a single user message.
        options: those of :class:`fastinfer.ChatOptions`; what is left out or None is as it was given for all.

    Raises:
        TypeError: there is no such option.
    """

    messages: Messages
    options: ChatOptions = field(default_factory=ChatOptions)

    def __post_init__(self) -> None:
        check_names(self.options)

    def options_over(self, common: ChatOptions) -> ChatOptions:
        """The options, with those given for all where it has none."""
        own = {name: value for name, value in self.options.items() if value is not None}
        return cast("ChatOptions", {**common, **own})
