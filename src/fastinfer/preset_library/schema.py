"""The parameters a preset may hold: one frozen pydantic model for each kind of preset and engine.

Types are strict: ``"512"`` is no number, ``True`` is no count, and an unknown field is an error. The rules that tie
fields to each other are in :func:`conflicts`, so that they can be reported together with the faults of single fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

__all__ = [
    "INT32_MAX",
    "PARAMETER_CLASSES",
    "DecodeIn",
    "Kind",
    "LlamaChatParameters",
    "LlamaClassifyParameters",
    "Parameters",
    "TurbomindClassifyParameters",
    "conflicts",
]

Kind = Literal["classify", "chat"]
DecodeIn = Literal["threads", "processes"]

INT32_MAX: Final = 2**31 - 1  # both engines keep these counts in C ints
_MOST_SLOTS: Final = 254  # LLAMA_MAX_SEQ in llama.cpp is 256; one sequence is for scratch, one for padding
_GGML_MAX_THREADS: Final = 512  # GGML_MAX_N_THREADS in ggml
_MOST_GPUS: Final = 1024  # more than any host has
_LABELS: Final = "{labels}"
_IMAGE: Final = "{image}"


def _path_to_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _whole_number(value: object) -> object:
    # pydantic's Literal compares with ==, so that False would pass for 0 and 4.0 for 4.
    if type(value) is not int:
        raise ValueError("not a whole number")
    return value


def _image_in_braces(text: str) -> str:
    if text.count(_IMAGE) > 1:
        raise ValueError("names the image more than once")
    rest = text.replace(_IMAGE, "")
    if "{" in rest or "}" in rest:
        raise ValueError("holds a brace")
    return text


def _labels_and_image_in_braces(text: str) -> str:
    _image_in_braces(text.replace(_LABELS, ""))
    return text


def _list_to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _all_different(numbers: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(numbers)) < len(numbers):
        raise ValueError("holds a number twice")
    return numbers


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
Workers = Annotated[int, Field(ge=0, le=256)]
Threads = Annotated[int, Field(ge=0, le=_GGML_MAX_THREADS)]
Gpus = Annotated[
    tuple[Annotated[int, Field(ge=0, le=INT32_MAX)], ...],
    BeforeValidator(_list_to_tuple),
    AfterValidator(_all_different),
    PlainSerializer(list, return_type=list[int]),
    Field(description="a list of different whole numbers from 0, or an empty one"),
]
Prompt = Annotated[
    Text,
    AfterValidator(_labels_and_image_in_braces),
    Field(
        description="text, not empty; {labels} becomes the label names, {image}, once, is where the image goes, any "
        "other brace is refused"
    ),
]
OpenPrompt = Annotated[
    Text,
    AfterValidator(_image_in_braces),
    Field(description="text, not empty; {image}, once, is where the image goes, any other brace is refused"),
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
    context, slots = values.get("n_ctx"), values.get("parallel")
    if values.get("kv_unified") is False and isinstance(context, int) and isinstance(slots, int) and context < slots:
        found["parallel"] = f"{slots} slots share out n_ctx, {context}, and get no token each; lower parallel"
    least, most = values.get("min_image_pixels"), values.get("max_image_pixels")
    if isinstance(least, int) and isinstance(most, int) and least > most > 0:
        found["min_image_pixels"] = f"{least} is more than max_image_pixels, {most}; lower it or raise max_image_pixels"
    devices, tp = values.get("devices"), values.get("tp")
    if isinstance(devices, (list, tuple)) and isinstance(tp, int) and tp > 0 and len(devices) % tp:
        found["devices"] = f"its length, {len(devices)}, is no multiple of tp, {tp}; name {tp} GPUs for each replica"
    return found


class _Parameters(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )

    @property
    def uses_gpu(self) -> bool:
        """Whether anything of the model is to be on a GPU."""
        return True

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
    model_format: Literal["auto", "hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4"] = "auto"
    trust_remote_code: bool = False
    tp: Annotated[int, Field(ge=1, le=_MOST_GPUS)] = 1
    devices: Gpus = ()
    decode_workers: Workers = 0
    decode_in: DecodeIn = "threads"
    max_tiles: Count = 1
    min_image_pixels: CountOrZero = 0
    max_image_pixels: CountOrZero = 0
    prompt: Prompt = "What is in this image? Answer with one of: {labels}."
    open_prompt: OpenPrompt = "What is in this image? Answer with its name only."
    label_tolerance: Annotated[Number, Field(ge=0, lt=1)] = 0.0001
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
    workers: Workers = 0
    decode_workers: Workers = 0
    decode_in: DecodeIn = "threads"
    prompt: Prompt = _EMBEDDED_PROMPT
    open_prompt: OpenPrompt = _EMBEDDED_PROMPT
    max_label_tokens: Count = 12
    max_pixels: Count = 64_000_000

    @property
    def uses_gpu(self) -> bool:
        """Whether any layer of the model is to be on a GPU."""
        return self.n_gpu_layers != 0


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
    parallel: Annotated[int, Field(ge=1, le=_MOST_SLOTS)]
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

    @property
    def uses_gpu(self) -> bool:
        """Whether any layer of the model is to be on a GPU."""
        return self.n_gpu_layers != 0 and self.device.upper() != "CPU"


Parameters = Union[TurbomindClassifyParameters, LlamaClassifyParameters, LlamaChatParameters]  # noqa: UP007

PARAMETER_CLASSES: Final[Mapping[tuple[Kind, str], type[Parameters]]] = {
    ("classify", "turbomind"): TurbomindClassifyParameters,
    ("classify", "llama.cpp"): LlamaClassifyParameters,
    ("chat", "llama.cpp"): LlamaChatParameters,
}
