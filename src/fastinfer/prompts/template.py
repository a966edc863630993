"""A chat template: from checked messages to the text that the model reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, TypeAlias

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from fastinfer.errors import MessageError, ModelLoadError

from .marks import IMAGE, MEDIA, show
from .sandbox import FAILURES, compile_template, render_template

__all__ = ["ChatTemplate", "TemplateMessage"]

TemplateMessage: TypeAlias = dict[str, Any]
"""A message as templates take it: role, content (str), and where there are any reasoning_content, tool_calls (with
arguments as a dict), tool_call_id and name."""

# What probes look for in a rendered text; no template holds these by chance.
_NEEDLE, _OTHER = "nEEdle of a probe", "oTHEr_of_a_probe"
_Form: TypeAlias = Callable[[Sequence[TemplateMessage]], Sequence[TemplateMessage]]
_CALL_ID = "call12345"  # nine letters and digits, as Mistral's templates demand


class ChatTemplate:
    """A compiled chat template and what was found out about it. Safe to use from several threads.

    Args:
        source: Jinja, as chat templates of Transformers are written.
        name: how errors call it.
        bos: text of the token that begins a text, for the template's ``bos_token``.
        eos: text of the token that ends one, for ``eos_token``.
        stop: strings that end a reply, for templates without end-of-turn tokens.
        tool_use: the template for conversations with tools, where a model has one of its own.

    Attributes:
        source, name, stop: as given.
        takes_tools: definitions of tools show in the rendered text.

    Raises:
        ModelLoadError: the source is no Jinja template.
    """

    def __init__(
        self,
        source: str,
        *,
        name: str = "template",
        bos: str = "",
        eos: str = "",
        stop: tuple[str, ...] = (),
        tool_use: ChatTemplate | None = None,
    ) -> None:
        self.source, self.name, self.stop = source, name, stop
        self._tool_use = tool_use
        self._tokens = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = compile_template(source)
        except (TemplateError, RecursionError, MemoryError, SyntaxError, ValueError) as error:
            number = getattr(error, "lineno", None)
            line = f", line {number}" if number else ""
            raise ModelLoadError(
                f"The chat template {name!r} is no Jinja template{line}: {error}.",
                hint='Name another one with chat_template, for example "chatml".',
            ) from error
        user: TemplateMessage = {"role": "user", "content": _NEEDLE}
        # Content as a text or as parts, and no tools as None or as an undefined variable: what shows a user's text.
        forms = product((False, True), ({"tools": None}, {}))
        form = next((form for form in forms if self._shows(_NEEDLE, [user], form=form)), None)
        self._as_parts, self._without_tools = form or (False, {"tools": None})
        # A template that shows nothing at all wants variables that come with a request: it may be able to do the rest.
        picture: TemplateMessage = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _NEEDLE}]}
        # Such a template may put a line break beside an image, with which the model was trained.
        self._places_images = self._shows(MEDIA, [picture], form=(False, self._without_tools))
        system: TemplateMessage = {"role": "system", "content": _OTHER}
        self._takes_system = form is None or self._shows(_OTHER, [system, user])
        self._calls = _CALL_FORMS if form is None else self._probe_calls(user)
        tool = {"name": _OTHER, "description": "", "parameters": {"type": "object", "properties": {}}}
        tools = [{"type": "function", "function": tool}]
        self.takes_tools: bool = bool(tool_use and tool_use.takes_tools) or self._shows(_OTHER, [user], tools)

    def render(
        self,
        messages: Sequence[TemplateMessage],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **chat_template_kwargs: Any,
    ) -> str:
        """The prompt.

        What a template cannot take is given to it in another way: contents as lists of parts, arguments of tool calls
        as JSON texts or the calls as text, and system messages as the beginning of the next user message.

        Args:
            messages: see :data:`TemplateMessage`; they are not changed.
            tools: in OpenAI's form, or None.
            add_generation_prompt: end with the beginning of the assistant's reply.
            chat_template_kwargs: further variables of the template, for example ``enable_thinking`` or
                ``thinking_budget``.

        Raises:
            MessageError: the template refuses the messages or fails on them; says why in the template's own words.
        """
        if tools and self._tool_use is not None:
            return self._tool_use.render(
                messages, tools=tools, add_generation_prompt=add_generation_prompt, **chat_template_kwargs
            )
        variables = {"add_generation_prompt": add_generation_prompt, **chat_template_kwargs}
        first: Exception | None = None
        for attempt in self._attempts(messages):
            try:
                return self._run(attempt, tools or None, variables)
            except SecurityError as error:
                first = error
                break
            except FAILURES as error:
                first = first or error
        assert first is not None
        own = isinstance(first, TemplateError)
        words = show(str(first)) if own else f"{type(first).__name__}: {show(str(first))}"
        raise MessageError(
            f"The chat template {self.name!r} {'refuses' if own else 'fails on'} these messages: {words.rstrip('. ')}.",
            hint="Change the messages accordingly, or choose another chat_template.",
        ) from first

    def _attempts(self, messages: Sequence[TemplateMessage]) -> Iterator[Sequence[TemplateMessage]]:
        """The messages in every form that may do, the form that probes found best first."""
        has_system = any(m["role"] == "system" for m in messages)
        has_calls = any(m.get("tool_calls") for m in messages)
        folds = (False, True) if self._takes_system else (True, False)
        for fold, calls in product(folds if has_system else (False,), self._calls if has_calls else (_as_it_is,)):
            yield calls(_folded(messages) if fold else messages)

    def _run(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        form: tuple[bool, Mapping[str, Any]] | None = None,
    ) -> str:
        as_parts, without_tools = form or (self._as_parts, self._without_tools)
        places = form is None and self._places_images and any(IMAGE in (m["content"] or "") for m in messages)
        # Templates may append to lists, which must not be the caller's.
        given = deepcopy(list(_with_parts(messages, places) if as_parts or places else messages))
        more = {"tools": deepcopy(tools)} if tools else without_tools
        text = render_template(self._template, {**self._tokens, "messages": given, **more, **variables})
        return text.replace(MEDIA, IMAGE) if places else text

    def _shows(
        self,
        needle: str,
        messages: Sequence[TemplateMessage],
        tools: Sequence[Mapping[str, Any]] | None = None,
        form: tuple[bool, Mapping[str, Any]] | None = None,
    ) -> bool:
        try:
            return needle in self._run(messages, tools, {"add_generation_prompt": True}, form)
        except FAILURES:
            return False

    def _probe_calls(self, user: TemplateMessage) -> tuple[_Form, ...]:
        """Forms of tool calls to try, first one that shows the arguments otherwise than as Python writes a dict."""
        call = {"id": _CALL_ID, "type": "function", "function": {"name": "probe", "arguments": {_OTHER: _NEEDLE}}}
        messages = [user, {"role": "assistant", "content": "", "tool_calls": [call]}]
        answered = [*messages, {"role": "tool", "content": "4", "tool_call_id": _CALL_ID, "name": "probe"}]
        for form in _CALL_FORMS:
            for probe in (form(answered), form(messages)):
                if self._shows(_OTHER, probe) and not self._shows(f"{{'{_OTHER}'", probe):
                    return (form, *(other for other in _CALL_FORMS if other is not form))
        return (_with_calls_as_text,)


def _as_it_is(messages: Sequence[TemplateMessage]) -> Sequence[TemplateMessage]:
    return messages


def _with_calls_as_text(messages: Sequence[TemplateMessage]) -> Sequence[TemplateMessage]:
    """Tool calls as JSON at the end of the content, for templates that would not show them."""
    done = []
    for message in messages:
        if calls := message.get("tool_calls"):
            lines = [message["content"]] if message["content"] else []
            lines += [json.dumps(call["function"], ensure_ascii=False) for call in calls]
            message = {key: value for key, value in message.items() if key != "tool_calls"}
            message["content"] = "\n".join(lines)
        done.append(message)
    return done


def _with_parts(messages: Sequence[TemplateMessage], images: bool = False) -> list[TemplateMessage]:
    """Contents as lists: one text, or with ``images`` the texts between images, and these as parts of their own."""
    done = []
    for message in messages:
        parts: list[dict[str, str]] = []
        content = message["content"] or ""
        texts = content.split(IMAGE) if images else [content]
        for index, text in enumerate(texts):
            parts += [{"type": "image"}] if index else []
            parts += [{"type": "text", "text": text}] if text else []
        done.append({**message, "content": parts})
    return done


def _with_json_arguments(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    done = []
    for message in messages:
        if calls := message.get("tool_calls"):
            functions = [
                {**c["function"], "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False)}
                for c in calls
            ]
            message = {**message, "tool_calls": [{**c, "function": f} for c, f in zip(calls, functions, strict=True)]}
        done.append(message)
    return done


def _without_content(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """None for the empty content of messages with tool calls, by which some templates know them."""
    return [{**m, "content": None} if m.get("tool_calls") and not m["content"] else m for m in messages]


def _bare_with_json_arguments(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    return _without_content(_with_json_arguments(messages))


_CALL_FORMS: tuple[_Form, ...] = (_as_it_is, _with_json_arguments, _without_content, _bare_with_json_arguments)


def _folded(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """System messages as the beginning of the next user message, or as one where none follows."""
    done: list[TemplateMessage] = []
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] == "user":
            message = {**message, "content": "\n".join([*waiting, message["content"]])}
            waiting = []
        done.append(message)
    return [*done, {"role": "user", "content": "\n".join(waiting)}] if waiting else done
