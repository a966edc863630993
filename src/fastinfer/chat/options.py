"""The options of a single chat, and what becomes of them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from fastinfer.engines.chat import Sampling
from fastinfer.errors import PresetError, SchemaError
from fastinfer.preset_library import LlamaChatParameters, Preset
from fastinfer.preset_library.validation import nearest
from fastinfer.replies import CompiledSchema, compile_schema

__all__ = ["ChatOptions", "Settings", "check_names", "read_options", "sampling_of"]

#: Options that are parameters of a preset, and change them for one chat.
_OF_PRESET = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "frequency_penalty",
    "presence_penalty",
)
_MOST_SEED = 2**32 - 2
_MOST_LOGPROBS = 100
#: Variables of a template that are not the caller's to set.
_RESERVED = {"self", "messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}
#: Seconds; more than any system's locks can wait for makes no sense.
_LONGEST = 1e6
_MOST_BIAS = 1e6


class ChatOptions(TypedDict, total=False):
    """Options of ``chat`` and its relatives; what is left out or None is as the preset has it.

    Attributes:
        max_tokens: most tokens of the reply, reasoning included; 0 until the context is full.
        temperature: 0 and up; 0 always takes the likeliest token.
        top_p, min_p: 0 to 1.
        top_k: 0 and up; 0 keeps all candidates.
        repeat_penalty: above 0; 1 is off.
        repeat_last_n: -1 and up; -1 looks back on everything.
        frequency_penalty, presence_penalty: -2 to 2; 0 is off.
        seed: 0 to 2**32 - 2; the same seed, prompt and options give the same reply. None draws one.
        stop: a string or several that end the reply; they are not part of it.
        schema: a pydantic model, another type that pydantic takes, or a JSON schema; the answer follows it, and
            ``reply.parsed`` holds it. The model may think before, but it calls no tools.
        grammar: GBNF that the answer follows, instead of a schema.
        tools: OpenAI's dicts or Python functions the model may ask to call.
        thinking_budget: tokens the model may think, for templates that know it (Seed-OSS); 0 not to think, -1 without
            a limit.
        chat_template_kwargs: further variables of the chat template.
        timeout: seconds until the request fails with RequestTimeoutError, waiting for a slot included.
        logprobs: log-probabilities of each token, with this many alternatives, 0 to 100.
        logit_bias: what is added to the scores of tokens, by token number; ``-math.inf`` rules one out.
        ignore_eos: go on where the model would end the reply; for measurements.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    schema: Any
    grammar: str | None
    tools: Sequence[Mapping[str, Any] | Callable[..., Any]] | None
    thinking_budget: int | None
    chat_template_kwargs: Mapping[str, Any] | None
    timeout: float | None
    logprobs: int | None
    logit_bias: Mapping[int, float] | None
    ignore_eos: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options with the preset's values filled in, ready for any number of chats."""

    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...]
    schema: CompiledSchema | None
    grammar: str | None
    thinking_budget: int | None
    tools: Sequence[Mapping[str, Any]] = ()
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    logprobs: int | None = None


def read_options(preset: Preset, options: Mapping[str, Any], *, vocabulary_size: int) -> Settings:
    """Check options and fill in the preset's values, all but ``tools`` and what the template and llama.cpp know.

    Raises:
        TypeError: an option is unknown.
        PresetError: a value is outside its legal range.
        SchemaError: the schema cannot be compiled, or there is a grammar too.
    """
    check_names(options)
    changes = {name: options[name] for name in _OF_PRESET if options.get(name) is not None}
    parameters = (preset.replace(**changes) if changes else preset).parameters
    assert isinstance(parameters, LlamaChatParameters)
    schema, grammar = options.get("schema"), _grammar(options.get("grammar"))
    if schema is not None and grammar is not None:
        raise SchemaError("There is a schema and a grammar; a reply can only follow one.", hint="Leave one out.")
    compiled = None if schema is None else compile_schema(schema)
    return Settings(
        sampling=replace(
            sampling_of(parameters),
            logit_bias=_biases(options.get("logit_bias"), vocabulary_size),
            ignore_end=_truth("ignore_eos", options.get("ignore_eos")),
            seed=_whole("seed", options.get("seed"), 0, _MOST_SEED),
        ),
        max_tokens=parameters.max_tokens or None,
        stop=_stop(options.get("stop")),
        schema=compiled,
        grammar=compiled.gbnf if compiled else grammar,
        thinking_budget=_whole("thinking_budget", options.get("thinking_budget"), -1, 2**31 - 1),
        template_variables=_variables(options.get("chat_template_kwargs")),
        timeout=_seconds("timeout", options.get("timeout")),
        logprobs=_whole("logprobs", options.get("logprobs"), 0, _MOST_LOGPROBS),
    )


def check_names(options: Mapping[str, Any]) -> None:
    """Raise TypeError if there is an option that is none of :class:`ChatOptions`."""
    known = ChatOptions.__annotations__
    for name in options:
        if name not in known:
            similar = nearest(name, known)
            raise TypeError(f"unknown option {name!r}" + (f"; did you mean {similar[0]}?" if similar else ""))


def sampling_of(parameters: LlamaChatParameters) -> Sampling:
    """A preset's sampling options."""
    return Sampling(
        temperature=parameters.temperature,
        top_k=parameters.top_k,
        top_p=parameters.top_p,
        min_p=parameters.min_p,
        repeat_penalty=parameters.repeat_penalty,
        repeat_last_n=parameters.repeat_last_n,
        frequency_penalty=parameters.frequency_penalty,
        presence_penalty=parameters.presence_penalty,
    )


def _wrong(name: str, value: object, what: str) -> PresetError:
    return PresetError(
        f"{name}: {reprlib.repr(value)} is not {what}.", hint="The docstring of ChatOptions lists all options."
    )


def _whole(name: str, value: Any, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")
    return value


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= _LONGEST:
        raise _wrong(name, value, f"a number of seconds above 0, at most {_LONGEST:,.0f}")
    return float(value)


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(isinstance(s, str) and s for s in strings):
        raise _wrong("stop", value, "a string or several, none of them empty")
    return strings


def _truth(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return bool(value)


def _grammar(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise SchemaError(f"The grammar is of type {type(value).__name__}.", hint="Pass GBNF as a str.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SchemaError("The grammar holds half a surrogate pair.", hint="Remove the character.") from error
    return value


def _biases(value: Any, vocabulary_size: int) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    legal = f"legal: tokens are 0 to {vocabulary_size - 1}, biases {-_MOST_BIAS:g} to {_MOST_BIAS:g} or -inf"
    if not isinstance(value, Mapping):
        raise _wrong("logit_bias", value, "a mapping from tokens to numbers")
    for token, bias in value.items():
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary_size:
            raise _wrong("logit_bias", {token: bias}, legal)
        is_number = isinstance(bias, (int, float)) and not isinstance(bias, bool)
        if not is_number or not (abs(bias) <= _MOST_BIAS or bias == -math.inf):
            raise _wrong("logit_bias", {token: bias}, legal)
    return tuple((token, float(bias)) for token, bias in value.items())


def _variables(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _wrong("chat_template_kwargs", value, "a mapping from names to values")
    if taken := sorted(_RESERVED.intersection(value)):
        raise _wrong("chat_template_kwargs", value, f"allowed to set {taken[0]!r}, which is given by the conversation")
    return dict(value)
