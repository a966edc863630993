"""The options of a single chat, and what becomes of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypedDict

from fastinfer.engines.chat import Sampling
from fastinfer.errors import PresetError, SchemaError
from fastinfer.preset_library import LlamaChatParameters, Preset
from fastinfer.preset_library.validation import nearest
from fastinfer.replies import CompiledSchema, compile_schema

if TYPE_CHECKING:
    from fastinfer.prompts import Tool

__all__ = ["ChatOptions", "Settings", "read_options", "sampling_of"]

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


class ChatOptions(TypedDict, total=False):
    """Options of ``chat`` and its relatives; what is left out is as the preset has it.

    Attributes:
        max_tokens: most tokens of the reply, reasoning included; 0 or None until the context is full.
        temperature: 0 and up; 0 always takes the likeliest token.
        top_p, min_p: 0 to 1.
        top_k: 0 and up; 0 keeps all candidates.
        repeat_penalty: above 0; 1 is off.
        repeat_last_n: -1 and up; -1 looks back on everything.
        frequency_penalty, presence_penalty: -2 to 2; 0 is off.
        seed: 0 to 2**32 - 2; the same seed, prompt and options give the same reply.
        stop: a string or several that end the reply; they are not part of it.
        schema: a pydantic model, another type that pydantic takes, or a JSON schema; the answer follows it, and
            ``reply.parsed`` holds it.
        grammar: GBNF that the answer follows, instead of a schema.
        tools: OpenAI's dicts or Python functions the model may ask to call.
        thinking_budget: tokens the model may think, for templates that know it (Seed-OSS); 0 not to think.
        chat_template_kwargs: further variables of the chat template.
        timeout: seconds until the request fails with RequestTimeoutError, waiting for a slot included.
        logprobs: log-probabilities of each token, with this many alternatives, 0 to 100.
        logit_bias: what is added to the scores of tokens, by token number.
        ignore_eos: go on where the model would end the reply; for measurements.
    """

    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    repeat_last_n: int
    frequency_penalty: float
    presence_penalty: float
    seed: int | None
    stop: str | Sequence[str]
    schema: Any
    grammar: str | None
    tools: Sequence[Tool] | None
    thinking_budget: int | None
    chat_template_kwargs: Mapping[str, Any] | None
    timeout: float | None
    logprobs: int | None
    logit_bias: Mapping[int, float] | None
    ignore_eos: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options with the preset's values filled in."""

    sampling: Sampling
    max_tokens: int | None
    stop: tuple[str, ...]
    schema: CompiledSchema | None
    grammar: str | None
    tools: Sequence[Tool] | None
    thinking_budget: int | None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    timeout: float | None = None
    logprobs: int | None = None


def read_options(preset: Preset, options: Mapping[str, Any]) -> Settings:
    """Check options and fill in the preset's values.

    Raises:
        TypeError: an option is unknown.
        PresetError: a value is outside its legal range.
        SchemaError: the schema cannot be compiled, or there is a grammar too.
    """
    known = ChatOptions.__annotations__
    for name in options:
        if name not in known:
            similar = nearest(name, known)
            raise TypeError(f"unknown option {name!r}" + (f"; did you mean {similar[0]}?" if similar else ""))
    changes = {name: options[name] for name in _OF_PRESET if options.get(name) is not None}
    parameters = (preset.replace(**changes) if changes else preset).parameters
    assert isinstance(parameters, LlamaChatParameters)
    schema, grammar = options.get("schema"), options.get("grammar")
    if schema is not None and grammar is not None:
        raise SchemaError("There is a schema and a grammar; a reply can only follow one.", hint="Leave one out.")
    compiled = None if schema is None else compile_schema(schema)
    timeout = _number("timeout", options.get("timeout"), above=0)
    variables = options.get("chat_template_kwargs")
    return Settings(
        sampling=replace(
            sampling_of(parameters),
            logit_bias=_biases(options.get("logit_bias")),
            ignore_end=bool(options.get("ignore_eos", False)),
            seed=_whole("seed", options.get("seed"), 0, _MOST_SEED),
        ),
        max_tokens=parameters.max_tokens or None,
        stop=_stop(options.get("stop")),
        schema=compiled,
        grammar=compiled.gbnf if compiled else grammar,
        tools=options.get("tools") or None,
        thinking_budget=_whole("thinking_budget", options.get("thinking_budget"), -1, 2**31 - 1),
        template_variables=_variables(variables),
        deadline=None if timeout is None else time.monotonic() + timeout,
        timeout=timeout,
        logprobs=_whole("logprobs", options.get("logprobs"), 0, _MOST_LOGPROBS),
    )


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
    return PresetError(f"{name}: {value!r} is not {what}.", hint="The docstring of ChatOptions lists all options.")


def _whole(name: str, value: Any, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most}")
    return value


def _number(name: str, value: Any, *, above: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > above or math.isinf(value):
        raise _wrong(name, value, f"a number above {above:g}")
    return float(value)


def _stop(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(isinstance(s, str) and s for s in strings):
        raise _wrong("stop", value, "a string or several, none of them empty")
    return strings


def _biases(value: Any) -> tuple[tuple[int, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise _wrong("logit_bias", value, "a mapping from tokens to numbers")
    for token, bias in value.items():
        if isinstance(token, bool) or not isinstance(token, int) or token < 0 or math.isnan(float(bias)):
            raise _wrong("logit_bias", value, "a mapping from tokens to numbers")
    return tuple((token, float(bias)) for token, bias in value.items())


def _variables(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _wrong("chat_template_kwargs", value, "a mapping from names to values")
    return value
