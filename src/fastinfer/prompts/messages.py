"""Messages as callers write them, in OpenAI's form, to messages that are known to be right."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, cast

from fastinfer.errors import MessageError
from fastinfer.images.source import ImageSource

from .media import image_source
from .values import checked_json, checked_text

__all__ = ["Conversation", "Message", "Messages", "Role", "ToolCall", "normalise"]

Role = Literal["system", "user", "assistant", "tool"]
Messages: TypeAlias = str | Sequence[Mapping[str, Any]]
"""What callers pass: one user message as a str, or a sequence of OpenAI's message dicts."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant message makes.

    Attributes:
        name: of the function.
        arguments: a JSON object.
        id: that the tool's message refers to; "" where there is none.
    """

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        role: who wrote it.
        content: texts and images in order; None stands for the conversation's next image. () for no content.
        reasoning: what an assistant thought before its content, "" where unknown.
        tool_calls: calls of an assistant.
        tool_call_id: the call that a tool message answers, "" where unknown.
        name: of the tool in a tool message, of the writer elsewhere; "" where unknown.
    """

    role: Role
    content: tuple[str | None, ...]
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """Messages and the images in them, in order. Images are sources that ``fastinfer.images.load_image`` reads."""

    messages: tuple[Message, ...]
    images: tuple[ImageSource, ...] = ()


_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_COMMON = {"role", "content", "name"}
_KEYS: dict[Role, set[str]] = {
    "system": _COMMON,
    "user": _COMMON,
    "tool": _COMMON | {"tool_call_id"},
    # The last four are in every dump of OpenAI's replies, empty as a rule.
    "assistant": _COMMON
    | {"tool_calls", "reasoning_content", "reasoning", "refusal", "annotations", "audio", "function_call"},
}
_MUST_BE_EMPTY = {
    "audio": "Leave it out; audio is not supported.",
    "function_call": 'Use "tool_calls".',
    "refusal": 'Pass the refusal as "content".',
}
_HINT = 'Pass a str, or a list of {"role": ..., "content": ...} dicts.'
_REASONING = re.compile(r"\s*<(think|seed:think)>(.*?)</\1>\s*", re.DOTALL)


def normalise(messages: Messages) -> Conversation:
    """Check messages and bring them into one form.

    ``developer`` becomes ``system``; several texts of a message are joined by line breaks; a tool message gets its
    tool's name from the call it answers; reasoning in ``<think>`` or ``<seed:think>`` at the beginning of an
    assistant's content moves to :attr:`Message.reasoning`.

    Args:
        messages: a str is one user message. Else dicts with a ``role`` (system, developer, user, assistant, tool) and
            a ``content``: a str, or a list of parts ``{"type": "text", "text": ...}``,
            ``{"type": "image_url", "image_url": {"url": ...}}`` or ``{"type": "image", "image": source}``. An
            assistant's may be None if it has ``tool_calls``, whose arguments are a JSON text or a dict.

    Raises:
        MessageError: something else; says which message, what is wrong and what to do.
    """
    if isinstance(messages, str):
        return Conversation((Message("user", (checked_text(messages, "The message"),)),))
    if not isinstance(messages, Sequence) or isinstance(messages, (bytes, bytearray, memoryview)):
        raise MessageError(f"Messages are of type {type(messages).__name__}.", hint=_HINT)
    if not messages:
        raise MessageError("There are no messages.", hint=_HINT)
    images: list[ImageSource] = []
    done: list[Message] = []
    names: dict[str, str] = {}
    for index, raw in enumerate(messages):
        message = _message(raw, f"Message {index}", images, names)
        names.update((call.id, call.name) for call in message.tool_calls if call.id)
        done.append(message)
    return Conversation(tuple(done), tuple(images))


def _message(raw: object, where: str, images: list[ImageSource], names: Mapping[str, str]) -> Message:
    if not isinstance(raw, Mapping):
        hint = "Pass its .model_dump(exclude_none=True)." if hasattr(raw, "model_dump") else _HINT
        raise MessageError(f"{where} is of type {type(raw).__name__}, not a dict.", hint=hint)
    role = _role(raw, where)
    for key, value in raw.items():
        if key not in _KEYS[role]:
            raise MessageError(
                f"{where} has an unknown key {key!r}.",
                hint=f"A message of role {role!r} may have {', '.join(sorted(_KEYS[role]))}.",
            )
        if key in _MUST_BE_EMPTY and value:
            raise MessageError(f"{where} has a {key!r}.", hint=_MUST_BE_EMPTY[key])
    calls = _tool_calls(raw.get("tool_calls"), where)
    reasoning = _reasoning(raw, where)
    content = _content(raw, role, where, bool(calls), images)
    if role == "assistant" and not reasoning and content and content[0] and (found := _REASONING.match(content[0])):
        reasoning, content = found[2].strip(), (content[0][found.end() :], *content[1:])
    call_id = _optional_text(raw, "tool_call_id", where)
    name = _optional_text(raw, "name", where) or (names.get(call_id, "") if role == "tool" else "")
    return Message(role, content, reasoning, calls, call_id, name)


def _role(raw: Mapping[str, Any], where: str) -> Role:
    roles = ", ".join(_ROLES)
    if "role" not in raw:
        raise MessageError(f'{where} has no "role".', hint=f"Its role is one of {roles}.")
    role = raw["role"]
    if not isinstance(role, str) or role not in _ROLES:
        near = get_close_matches(role.lower(), _ROLES, 1, 0.5) if isinstance(role, str) else []
        hint = f"Did you mean {near[0]!r}? Roles are {roles}." if near else f"Roles are {roles}."
        raise MessageError(f"{where} has the unknown role {role!r:.80}.", hint=hint)
    return _ROLES[role]


def _content(
    raw: Mapping[str, Any], role: Role, where: str, called: bool, images: list[ImageSource]
) -> tuple[str | None, ...]:
    value = raw.get("content")
    if value is None:
        if role == "assistant" and called:
            return ()
        what = 'has no "content"' if "content" not in raw else "has the content None"
        also = " Only an assistant's message with tool_calls may go without." if role == "assistant" else ""
        raise MessageError(f"{where} {what}.", hint=f"Pass a str or a list of parts.{also}")
    if isinstance(value, str):
        return (checked_text(value, f"{where}: its content"),)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return _parts(value, role, where, images)
    hint = "For a tool's result, pass json.dumps(...) of it." if role == "tool" else "Pass a str or a list of parts."
    raise MessageError(f"{where}: its content is of type {type(value).__name__}.", hint=hint)


def _parts(parts: Sequence[Any], role: Role, where: str, images: list[ImageSource]) -> tuple[str | None, ...]:
    if not parts:
        raise MessageError(f"{where}: its content is an empty list.", hint="Pass a str or a list of parts.")
    done: list[str | None] = []
    for index, part in enumerate(parts):
        here = f"{where}, part {index}"
        if not isinstance(part, Mapping):
            raise MessageError(
                f"{here} is of type {type(part).__name__}, not a dict.", hint='Pass {"type": "text", "text": ...}.'
            )
        kind = part.get("type")
        if kind == "text":
            text = checked_text(part.get("text"), f'{here}: its "text"')
            # As llama-server joins them: a line break between texts, nothing beside an image.
            if done and (last := done[-1]) is not None:
                done[-1] = f"{last}\n{text}" if last else text
            else:
                done.append(text)
        elif kind in ("image_url", "image"):
            if role != "user" and role != "tool":
                raise MessageError(f"{here} is an image in a message of role {role!r}.", hint="Put it in a user's.")
            images.append(image_source(part, here))
            done.append(None)
        else:
            raise MessageError(
                f'{here} has the unknown "type" {kind!r:.80}.', hint="Parts are of type text, image_url or image."
            )
    return tuple(done)


def _optional_text(raw: Mapping[str, Any], key: str, where: str) -> str:
    value = raw.get(key)
    return "" if value is None else checked_text(value, f'{where}: its "{key}"')


def _reasoning(raw: Mapping[str, Any], where: str) -> str:
    return _optional_text(raw, "reasoning_content", where) or _optional_text(raw, "reasoning", where)


def _tool_calls(value: object, where: str) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise MessageError(f'{where}: its "tool_calls" are of type {type(value).__name__}.', hint="Pass a list.")
    return tuple(_tool_call(call, f"{where}, tool call {index}") for index, call in enumerate(value))


def _tool_call(call: object, where: str) -> ToolCall:
    form = '{"id": ..., "type": "function", "function": {"name": ..., "arguments": ...}}'
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise MessageError(f"{where} is not a call of a function.", hint=f"Its form is {form}.")
    if call.get("type", "function") != "function":
        raise MessageError(f"{where} has the type {call['type']!r:.80}.", hint="Only 'function' is supported.")
    name = checked_text(function.get("name"), f"{where}: its name")
    if not name:
        raise MessageError(f"{where} has an empty name.", hint=f"Its form is {form}.")
    return ToolCall(name, _arguments(function.get("arguments"), where), _optional_text(call, "id", where))


def _arguments(value: object, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        text = checked_text(value, f"{where}: its arguments")
        try:
            value = json.loads(text) if text.strip() else {}
        except (ValueError, RecursionError) as error:
            raise MessageError(
                f"{where}: its arguments are not JSON ({error}).", hint="Correct them, or leave the call out."
            ) from error
    if not isinstance(value, Mapping):
        raise MessageError(
            f"{where}: its arguments are of type {type(value).__name__}.",
            hint="Pass a JSON object, as a str or a dict.",
        )
    return cast("dict[str, Any]", checked_json(value, f"{where}: its arguments"))
