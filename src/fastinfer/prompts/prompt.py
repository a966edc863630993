"""From messages to the prompt that an engine evaluates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastinfer.errors import MessageError
from fastinfer.images.source import ImageSource

from .marks import IMAGE, show
from .messages import Message, Messages, normalise
from .template import ChatTemplate, TemplateMessage
from .tokens import PromptTokenizer
from .tools import Tool, normalise_tools
from .values import checked_json

if TYPE_CHECKING:
    from fastinfer.engines.chat import Vocabulary

__all__ = ["Prompt", "PromptBuilder"]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt in tokens.

    Attributes:
        text: as the model reads it; ``fastinfer.prompts.IMAGE`` stands for an image.
        tokens: of all text, shape (n,), int32.
        parts: tokens between images, shape (n,), int32, and the images in their places, as indices of `images`.
        images: sources that ``fastinfer.images.load_image`` reads.
        generation_prompt: what the template added after the last message, with which the reply begins; "" where that
            cannot be told. It may hold an open ``<think>``.
    """

    text: str
    tokens: npt.NDArray[np.int32]
    parts: tuple[npt.NDArray[np.int32] | int, ...]
    images: tuple[ImageSource, ...]
    generation_prompt: str


class PromptBuilder:
    """Makes prompts for one model and template. Safe to use from several threads.

    Args:
        vocabulary: of the model.
        template: see :func:`fastinfer.prompts.find_template`.
    """

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate) -> None:
        self.template = template
        self._tokenizer = PromptTokenizer(vocabulary)

    def build(
        self,
        messages: Messages,
        *,
        tools: Sequence[Tool] | None = None,
        add_generation_prompt: bool = True,
        **template_kwargs: Any,
    ) -> Prompt:
        """The prompt for a conversation. No text in messages, tools or keywords becomes a special token.

        Args:
            messages: see :func:`fastinfer.prompts.normalise`.
            tools: OpenAI's dicts or Python functions; None for none.
            add_generation_prompt: end with the beginning of the assistant's reply.
            template_kwargs: further variables of the template, JSON values, for example ``enable_thinking=False``.

        Raises:
            MessageError: messages, tools or variables are wrong, or the template cannot take them.
        """
        conversation = normalise(messages)
        definitions = normalise_tools(tools)
        guarded = self._tokenizer.guard_value(definitions) if definitions else None
        ready = [self._for_template(message) for message in conversation.messages]
        variables = {
            name: self._tokenizer.guard_value(checked_json(value, f"Template variable {name!r}"), inner=False)
            for name, value in template_kwargs.items()
        }

        def render(*, generate: bool, with_tools: bool = True) -> str:
            offered = guarded if with_tools else None
            return self.template.render(ready, tools=offered, add_generation_prompt=generate, **variables)

        rendered = render(generate=add_generation_prompt)
        # A probe may fail on something else, such as a missing keyword: the prompt itself says whether tools are lost.
        lost = definitions and not self.template.takes_tools
        if lost and rendered == render(generate=add_generation_prompt, with_tools=False):
            raise MessageError(
                f"The chat template {self.template.name!r} has no place for tools.",
                hint="Choose a model or a chat_template made for tools, or describe them in a system message.",
            )
        count = rendered.count(IMAGE)
        if count != len(conversation.images):
            raise MessageError(
                f"The chat template {self.template.name!r} shows {count} of {len(conversation.images)} images.",
                hint="Put images into user messages, or choose another chat_template.",
            )
        texts = self._tokenizer.encode(rendered)
        parts: list[npt.NDArray[np.int32] | int] = [texts[0]]
        for index, tokens in enumerate(texts[1:]):
            parts += [index, tokens]
        return Prompt(
            text=show(rendered),
            tokens=np.concatenate(texts),
            parts=tuple(part for part in parts if isinstance(part, int) or part.size),
            images=conversation.images,
            generation_prompt=self._added(rendered, render) if add_generation_prompt else "",
        )

    def _for_template(self, message: Message) -> TemplateMessage:
        guard, guard_value = self._tokenizer.guard, self._tokenizer.guard_value
        content = "".join(IMAGE if part is None else guard(part) for part in message.content)
        ready: TemplateMessage = {"role": message.role, "content": content}
        if message.reasoning:
            ready["reasoning_content"] = guard(message.reasoning)
        if message.tool_calls:
            ready["tool_calls"] = [
                {
                    **({"id": guard(call.id)} if call.id else {}),
                    "type": "function",
                    "function": {"name": guard_value(call.name), "arguments": guard_value(call.arguments)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id:
            ready["tool_call_id"] = guard(message.tool_call_id)
        if message.name:
            ready["name"] = guard_value(message.name)
        return ready

    @staticmethod
    def _added(rendered: str, render: Callable[..., str]) -> str:
        try:
            without = render(generate=False)
        except MessageError:
            return ""
        return show(rendered[len(without) :]) if rendered.startswith(without) else ""
