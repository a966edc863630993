"""A request's body, as OpenAI and llama-server write it, to a conversation with its options."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from fastinfer.chat.options import ChatOptions
from fastinfer.chat.request import ChatRequest
from fastinfer.errors import MessageError
from fastinfer.preset_library.validation import nearest
from fastinfer.replies import CompiledSchema, compile_schema

__all__ = ["canonical", "derived_seed", "digest", "read_request"]

#: Fields that mean the same here and there.
_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "grammar",
    "thinking_budget",
    "chat_template_kwargs",
    "ignore_eos",
)
#: Fields that are read, and then stand for something else.
_TRANSLATED = (
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "response_format",
    "json_schema",
    "tools",
    "tool_choice",
)
#: Fields that only have one value here.
_ONLY: dict[str, Any] = {"n": 1, "stream": False, "modalities": ["text"], "parallel_tool_calls": True}
#: Fields that change no reply: they are about an account, a bill or a server's cache. ``model`` chooses none.
_WITHOUT_EFFECT = frozenset(
    {
        "model",
        "metadata",
        "user",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
_INSTEAD = {
    "functions": 'Use "tools".',
    "function_call": 'Use "tool_choice".',
    "reasoning_effort": 'Use "thinking_budget", or what the chat template knows in "chat_template_kwargs".',
}
_MOST_ALTERNATIVES = 20
_TOKEN = re.compile(r"[0-9]{1,10}")
_SEEDS = 2**32 - 1


def read_request(
    body: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, *, system: str | None = None
) -> ChatRequest:
    """The conversation and options of a body; what is null counts as left out.

    Fields that change no reply are passed over: ``model`` (what is loaded answers), ``metadata``, ``user``, ``store``,
    ``service_tier``, ``safety_identifier``, ``prompt_cache_key`` and ``prompt_cache_retention``; the name, the
    description and ``strict`` of a JSON schema, which is always followed. Whatever else is not supported is refused.
    Where there is no ``seed`` one is derived from the rest (:func:`derived_seed`), so that a reply does not depend on
    when it is computed.

    Args:
        body: of a request to :data:`.lines.ENDPOINT`.
        defaults: options of :class:`fastinfer.ChatOptions` that hold where the body leaves them out.
        system: a system message for conversations that have none.

    Raises:
        MessageError: a field is unknown, not supported, or of a wrong shape. Whether the values are within their ranges
            is checked when the request is asked.
        SchemaError: the JSON schema cannot be compiled.
    """
    given = {name: value for name, value in body.items() if value is not None and name not in _WITHOUT_EFFECT}
    for name, value in given.items():
        if name in _ONLY:
            if type(value) is not type(_ONLY[name]) or value != _ONLY[name]:
                raise _wrong(name, value, f"Only {json.dumps(_ONLY[name])} is supported.")
        elif name not in _SAME and name not in _TRANSLATED:
            raise _unknown(name)
    options = dict(defaults or {})
    options.update((name, given[name]) for name in _SAME if name in given)
    options.update(_length(given) | _logprobs(given) | _biases(given) | _form(given) | _tools(given))
    if "schema" in options and "tools" in options:
        raise MessageError(
            "The body has tools and a form that the answer has to follow, so that no tool could ever be called.",
            hint='Leave one of them out, or set "tool_choice" to "none".',
        )
    messages = _messages(given, system)
    try:
        if "schema" in options:
            options["schema"] = _compiled(json.dumps(options["schema"]))
        options.setdefault("seed", derived_seed(canonical(messages, options)))
    except RecursionError as error:
        raise MessageError("The body is nested too deeply.", hint="Send a flatter one.") from error
    return ChatRequest(messages, cast("ChatOptions", options))


def canonical(messages: object, options: Mapping[str, Any]) -> str:
    """What a request asks for, as one text in ASCII, the same for bodies that differ only in their options' order.

    The order within messages, tools and schemas stays, because it is what the model reads.
    """
    plain = {
        name: value.json_schema if isinstance(value, CompiledSchema) else value
        for name, value in sorted(options.items())
        if value is not None
    }
    return json.dumps([messages, plain], separators=(",", ":"))


def digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for these texts in this order."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def derived_seed(request: str) -> int:
    """The seed of a request that has none, 0 to 2**32 - 2: a hash of its :func:`canonical` text.

    The same body draws the same reply, today or after a job was resumed; requests that differ draw different ones.
    """
    return int(digest("seed", request), 16) % _SEEDS


def _wrong(name: str, value: object, hint: str) -> MessageError:
    return MessageError(f"{name}: {value!r:.80} is not supported.", hint=hint)


def _unknown(name: str) -> MessageError:
    hint = _INSTEAD.get(name)
    if hint is None:
        similar = nearest(name, [*_SAME, *_TRANSLATED, *_ONLY])
        hint = f"Did you mean {similar[0]!r}?" if similar else "Leave it out."
    return MessageError(f"The field {name!r:.80} of the body is not supported.", hint=hint)


def _messages(given: Mapping[str, Any], system: str | None) -> list[Any]:
    messages = given.get("messages")
    if not isinstance(messages, list):
        raise MessageError('The body has no list of "messages".', hint='Write [{"role": ..., "content": ...}, ...].')
    for index, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
                _check_image(part, f"Message {index}")
    roles = [message.get("role") for message in messages if isinstance(message, dict)]
    if system and not {"system", "developer"}.intersection(map(str, roles)):
        return [{"role": "system", "content": system}, *messages]
    return messages


def _check_image(part: Mapping[str, Any], where: str) -> None:
    """Only images within the file: what a path leads to may be another image tomorrow, and the reply would stay."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or url[:5].lower() != "data:":
        raise MessageError(
            f"{where} has an image that is not part of the file.",
            hint='Write {"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}.',
        )


def _length(given: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in given]
    if len(names) > 1:
        raise MessageError("The body has max_tokens and max_completion_tokens.", hint="Leave one of them out.")
    for name in names:
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise _wrong(name, value, "It has to be a whole number above 0.")
        return {"max_tokens": value}
    return {}


def _logprobs(given: Mapping[str, Any]) -> dict[str, Any]:
    wanted, top = given.get("logprobs", False), given.get("top_logprobs", 0)
    if not isinstance(wanted, bool):
        raise _wrong("logprobs", wanted, 'It is true or false; "top_logprobs" is a number.')
    if isinstance(top, bool) or not isinstance(top, int) or not 0 <= top <= _MOST_ALTERNATIVES:
        raise _wrong("top_logprobs", top, f"It has to be a whole number from 0 to {_MOST_ALTERNATIVES}.")
    if top and not wanted:
        raise MessageError("The body has top_logprobs without logprobs.", hint='Set "logprobs" to true.')
    return {"logprobs": top} if wanted else {}


def _biases(given: Mapping[str, Any]) -> dict[str, Any]:
    biases = given.get("logit_bias")
    if biases is None:
        return {}
    if not isinstance(biases, dict) or not all(_TOKEN.fullmatch(token) for token in biases):
        raise _wrong("logit_bias", biases, 'Write {"<number of a token>": <bias>, ...}.')
    return {"logit_bias": {int(token): bias for token, bias in biases.items()}} if biases else {}


def _form(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer has to follow: OpenAI's response_format, or llama-server's json_schema."""
    form, schema = given.get("response_format"), given.get("json_schema")
    kind = form.get("type") if isinstance(form, dict) else None
    if form is not None and kind not in ("text", "json_object", "json_schema"):
        raise _wrong("response_format", form, 'Its "type" is text, json_object or json_schema.')
    if form is None or kind == "text":
        return {} if schema is None else {"schema": schema}
    if schema is not None:
        raise MessageError("The body has a response_format and a json_schema.", hint="Leave one of them out.")
    # llama-server reads a schema beside json_object, too.
    schema = form.get("schema") if kind == "json_object" else None
    return {"schema": form if schema is None else schema}


def _tools(given: Mapping[str, Any]) -> dict[str, Any]:
    tools, choice = given.get("tools"), given.get("tool_choice", "auto")
    if choice not in ("auto", "none"):
        raise _wrong("tool_choice", choice, 'Only "auto" and "none" are supported: the model decides.')
    return {} if tools is None or tools == [] or choice == "none" else {"tools": tools}


@lru_cache(maxsize=64)
def _compiled(schema: str) -> CompiledSchema:
    """The schema of a JSON text; those of a batch are much the same, and compiling one takes a millisecond."""
    return compile_schema(json.loads(schema))
