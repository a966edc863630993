"""The parameters a preset may hold: one frozen pydantic model for each kind of preset and engine.

Types are strict: ``"512"`` is no number, ``True`` is no count, and an unknown field is an error. The rules that tie
fields to each other are in :func:`conflicts`, so that they can be reported together with the faults of single fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "INT32_MAX",
    "PARAMETER_CLASSES",
    "Kind",
    "LlamaChatParameters",
    "LlamaClassifyParameters",
    "Parameters",
    "TurbomindClassifyParameters",
    "conflicts",
]

Kind = Literal["classify", "chat"]

INT32_MAX: Final = 2**31 - 1  # both engines keep these counts in C ints
_LLAMA_MAX_SEQUENCES: Final = 256  # LLAMA_MAX_SEQ in llama.cpp
_GGML_MAX_THREADS: Final = 512  # GGML_MAX_N_THREADS in ggml
_LABELS: Final = "{labels}"


def _path_to_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _whole_number(value: object) -> object:
    # pydantic's Literal compares with ==, so that False would pass for 0 and 4.0 for 4.
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


def _no_braces(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError("holds a brace")
    return text


def _only_labels_in_braces(text: str) -> str:
    _no_braces(text.replace(_LABELS, ""))
    return text


def _no_negative_zero(value: float) -> float:
    return value + 0.0  # -0.0 equals 0.0 but has another text, and with it another fingerprint


Count = Annotated[int, Field(ge=1, le=INT32_MAX)]
CountOrZero = Annotated[int, Field(ge=0, le=INT32_MAX)]
Number = Annotated[float, AfterValidator(_no_negative_zero)]
Share = Annotated[Number, Field(ge=0, le=1)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
Text = Annotated[str, Field(min_length=1)]
Model = Annotated[Text, BeforeValidator(_path_to_text)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
Layers = Annotated[int, Field(ge=-1, le=INT32_MAX)]
Threads = Annotated[int, Field(ge=0, le=_GGML_MAX_THREADS)]
Prompt = Annotated[
    Text,
    AfterValidator(_only_labels_in_braces),
    Field(description="text, not empty; {labels} becomes the label names, any other brace is refused"),
]
OpenPrompt = Annotated[
    Text,
    AfterValidator(_no_braces),
    Field(description="text, not empty, without braces"),
]
Device = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z]+[0-9]*$",
        description="a device name: letters, then perhaps a number, such as CUDA0, CUDA1 or CPU",
    ),
]

_UNQUANTISED: Final = frozenset({"f32", "f16", "bf16"})
_EMBEDDED_PROMPT: Final = "What is this?"


def conflicts(values: Mapping[str, object]) -> dict[str, str]:
    """The rules between fields that ``values`` breaks.

    Args:
        values: legal values by field; a rule is skipped where one of its fields is missing.

    Returns:
        What is wrong, by the field to change; empty when all rules hold.
    """
    found: dict[str, str] = {}
    for low, high in (("n_ubatch", "n_batch"), ("n_batch", "n_ctx")):
        small, large = values.get(low), values.get(high)
        if isinstance(small, int) and isinstance(large, int) and small > large:
            found[low] = f"{small} is more than {high}, {large}; lower {low} or raise {high}"
    type_v = values.get("type_v")
    if type_v is not None and type_v not in _UNQUANTISED and values.get("flash_attn") is False:
        found["type_v"] = f"{type_v!r} is quantised and needs flash_attn = true; else use 'f16', 'bf16' or 'f32'"
    return found


class _Parameters(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )

    @model_validator(mode="after")
    def _fields_agree(self) -> _Parameters:
        broken = conflicts(self.__dict__)
        if broken:
            raise ValueError("; ".join(f"{field}: {what}" for field, what in broken.items()))
        return self


class TurbomindClassifyParameters(_Parameters):
    """Image classification on LMDeploy's TurboMind engine (NVIDIA GPU).

    What each field means, costs and when to change it:
    ``fastinfer.preset_library.field_docs("classify", "turbomind")``.
    Limits are TurboMind's own, which accepts illegal values silently or ends the process on them.
    """

    backend: Literal["turbomind"]
    model: Model
    max_concurrent_requests: Count
    log_level: Literal["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"] = "ERROR"
    session_len: Count
    max_batch_size: Count
    cache_max_entry_count: Annotated[Number, Field(gt=0, lt=1)]
    cache_block_seq_len: Annotated[int, Field(ge=64, le=INT32_MAX, multiple_of=64)]
    max_prefill_token_num: Count
    quant_policy: Annotated[Literal[0, 4, 8], BeforeValidator(_whole_number)]
    vision_max_batch_size: Count
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    tp: Count = 1
    prompt: Prompt = "What is in this image? Answer with one of: {labels}."
    open_prompt: OpenPrompt = "What is in this image? Answer with its name only."
    max_label_tokens: Count = 12
    max_pixels: Count = 64_000_000


class LlamaClassifyParameters(_Parameters):
    """Image classification on llama.cpp (CPU, or any GPU it was built for).

    What each field means, costs and when to change it:
    ``fastinfer.preset_library.field_docs("classify", "llama.cpp")``.
    """

    backend: Literal["llama.cpp"]
    model: Model
    n_ctx: Count
    n_batch: Count
    n_ubatch: Count
    n_threads: Threads = 0
    n_gpu_layers: Layers
    flash_attn: bool
    type_k: CacheType
    type_v: CacheType
    vision_max_batch_size: Count = 8
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    decode_workers: Annotated[int, Field(ge=0, le=256)] = 0
    prompt: Prompt = _EMBEDDED_PROMPT
    open_prompt: OpenPrompt = _EMBEDDED_PROMPT
    max_label_tokens: Count = 12
    max_pixels: Count = 64_000_000


class LlamaChatParameters(_Parameters):
    """Chat on llama.cpp.

    What each field means, costs and when to change it: ``fastinfer.preset_library.field_docs("chat", "llama.cpp")``.
    """

    backend: Literal["llama.cpp"]
    model: Model
    n_ctx: Count
    n_batch: Count
    n_ubatch: Count
    type_k: CacheType
    type_v: CacheType
    flash_attn: bool
    n_gpu_layers: Layers
    parallel: Annotated[int, Field(ge=1, le=_LLAMA_MAX_SEQUENCES)]
    kv_unified: bool = True
    cache_reuse: CountOrZero = 0
    prefill_budget: CountOrZero = 0
    prefill_delay: CountOrZero = 0
    max_queue: CountOrZero = 1024
    chat_template: Text = "auto"
    device: Device = "CUDA0"
    temperature: Annotated[Number, Field(ge=0)] = 0.6
    top_p: Share = 0.95
    top_k: CountOrZero = 60
    min_p: Share = 0.05
    repeat_last_n: Annotated[int, Field(ge=-1, le=INT32_MAX)] = 64
    repeat_penalty: Annotated[Number, Field(gt=0)] = 1.05
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    max_tokens: CountOrZero = 0
    n_threads: Threads = 0


Parameters = Union[TurbomindClassifyParameters, LlamaClassifyParameters, LlamaChatParameters]  # noqa: UP007

PARAMETER_CLASSES: Final[Mapping[tuple[Kind, str], type[Parameters]]] = {
    ("classify", "turbomind"): TurbomindClassifyParameters,
    ("classify", "llama.cpp"): LlamaClassifyParameters,
    ("chat", "llama.cpp"): LlamaChatParameters,
}
