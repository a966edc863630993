"""Which fields are walked for which aim, in the documents' order, and which values are tried: one table.

The documented ladders are those of ``fields.toml`` (the advice on low throughput, a late first token and memory). They
end where the documents end; the values beyond are what measurements here showed to be worth trying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastinfer.engines.cores import usable_cores
from fastinfer.preset_library import Kind, Preset
from fastinfer.tuning.goal import Aim

__all__ = ["LADDERS", "Ladder", "Value", "ladders_for"]

#: A value, or a function that takes it from the other parameters of the preset.
Value = int | float | str | bool | Callable[[Mapping[str, Any]], Any]


def _n_batch(parameters: Mapping[str, Any]) -> int:
    return int(parameters["n_batch"])


def _half_the_context(parameters: Mapping[str, Any]) -> int:
    return int(parameters["n_ctx"]) // 2


def _quarter_of_the_context(parameters: Mapping[str, Any]) -> int:
    return int(parameters["n_ctx"]) // 4


def _half_the_cores(_: Mapping[str, Any]) -> int:
    return max(1, usable_cores() // 2)


def _all_but_one_core(_: Mapping[str, Any]) -> int:
    return max(1, usable_cores() - 1)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The values of one field, or of several that go together.

    Attributes:
        kind, backend: the presets that have the fields.
        aims: what they are walked for.
        fields: each gets the same value.
        values: those tried, as far as the preset does not have them already.
        why: what the values do for the aim.
        towards: which values are tried: all, or those above or below the preset's; a number format is above another
            when it is more exact.
        where: on which machines: all, or only where a CPU or a GPU computes.
        changes_answers: other values may give other answers, so that the ladder is walked only where that is allowed.
    """

    kind: Kind
    backend: str
    aims: tuple[Aim, ...]
    fields: tuple[str, ...]
    values: tuple[Value, ...]
    why: str
    towards: Literal["any", "higher", "lower"] = "any"
    where: Literal["any", "cpu", "gpu"] = "any"
    changes_answers: bool = False


def _chat(*aims: Aim) -> tuple[Kind, str, tuple[Aim, ...]]:
    return "chat", "llama.cpp", aims


def _images(*aims: Aim) -> tuple[Kind, str, tuple[Aim, ...]]:
    return "classify", "llama.cpp", aims


def _turbomind(*aims: Aim) -> tuple[Kind, str, tuple[Aim, ...]]:
    return "classify", "turbomind", aims


_SPEED: Final[tuple[Aim, Aim]] = ("throughput", "first-token-latency")

#: In the order in which they are walked for an aim.
LADDERS: Final[tuple[Ladder, ...]] = (
    # ---- chat
    Ladder(
        *_chat("first-token-latency"), ("flash_attn",), (True,), "It computes attention without the whole score matrix."
    ),
    Ladder(
        *_chat("throughput"),
        ("n_ubatch",),
        (1024, 1536, 2048),
        "Prompts are read in larger pieces.",
        towards="higher",
    ),
    Ladder(
        *_chat("first-token-latency", "inter-token-latency", "memory"),
        ("n_ubatch",),
        (2048, 1536, 1024, 512),
        "A smaller piece is over sooner, and needs less memory for activations.",
        towards="lower",
    ),
    Ladder(
        *_chat("throughput"),
        ("parallel",),
        (4, 6, 8, 9, 12, 16, 24, 32),
        "A step reads the weights once for all conversations; at some count the engine changes kernels.",
    ),
    Ladder(
        *_chat("inter-token-latency"),
        ("parallel",),
        (1, 2, 4, 6, 8, 9, 12, 16, 24, 32),
        "Fewer conversations make a step shorter, but for the count at which the engine changes kernels.",
    ),
    Ladder(
        *_chat("first-token-latency", "memory"),
        ("parallel",),
        (8, 6, 4, 2, 1),
        "Fewer conversations share a step and the cache; further ones wait.",
        towards="lower",
    ),
    Ladder(
        *_chat("memory"),
        ("n_ctx",),
        (16384, _half_the_context, _quarter_of_the_context),
        "The cache is as large as the context.",
        towards="lower",
    ),
    Ladder(
        *_chat("throughput", "first-token-latency", "inter-token-latency"),
        ("kv_unified",),
        (False, True),
        "One cache for all makes every step look at all cells; one each fills steps up with a further slot.",
    ),
    Ladder(
        *_chat("throughput", "first-token-latency"),
        ("prefill_budget",),
        (0, 512, _n_batch),
        "More prompt tokens in a step: fewer steps, and longer ones.",
    ),
    Ladder(
        *_chat("inter-token-latency"),
        ("prefill_budget",),
        (0, 64, 128, 256, 512),
        "Fewer prompt tokens in a step disturb running replies less.",
    ),
    Ladder(
        *_chat("throughput"),
        ("prefill_delay",),
        (0, 24),
        "Prompts wait for each other and are read together.",
    ),
    Ladder(
        *_chat("throughput", "inter-token-latency"),
        ("type_k", "type_v"),
        ("f16",),
        "Attention reads an unquantised cache with less work, for twice the memory of q8_0.",
        towards="higher",
        where="gpu",
    ),
    Ladder(
        *_chat("memory"),
        ("type_k", "type_v"),
        ("q8_0",),
        "The cache takes half the memory of f16.",
        towards="lower",
        changes_answers=True,
    ),
    Ladder(
        *_chat("throughput", "first-token-latency", "inter-token-latency"),
        ("n_threads",),
        (_half_the_cores, _all_but_one_core, 0),
        "Threads beyond the physical cores slow each other down.",
        where="cpu",
    ),
    # ---- images on llama.cpp
    Ladder(
        *_images(*_SPEED),
        ("vision_max_batch_size",),
        (1, 4, 8, 16, 32),
        "Images that are encoded together share the weights, and wait for each other.",
    ),
    Ladder(
        *_images(*_SPEED),
        ("workers",),
        (1, _half_the_cores, 0),
        "Batches are computed side by side, each by fewer threads.",
    ),
    Ladder(
        *_images(*_SPEED),
        ("decode_workers",),
        (1, 2, _half_the_cores, 0),
        "Images are read and resized beside the model, on cores that it cannot use then.",
    ),
    Ladder(
        *_images(*_SPEED),
        ("decode_in",),
        ("threads", "processes"),
        "Processes do not wait for Python's global lock, threads copy nothing.",
    ),
    Ladder(
        *_images(*_SPEED),
        ("n_threads",),
        (_half_the_cores, _all_but_one_core, 0),
        "Threads beyond the physical cores slow each other down.",
        where="cpu",
    ),
    Ladder(
        *_images("memory"),
        ("vision_max_batch_size",),
        (8, 4, 1),
        "Fewer images at once need less memory for activations.",
        towards="lower",
    ),
    Ladder(
        *_images("memory"),
        ("n_ubatch",),
        (2048, 1024, 512),
        "Memory for activations grows with it.",
        towards="lower",
    ),
    Ladder(
        *_images("memory"),
        ("n_ctx", "n_batch", "n_ubatch"),
        (1024,),
        "The cache is as large as the context.",
        towards="lower",
    ),
    Ladder(*_images("memory"), ("n_ctx",), (8192, 4096), "The cache is as large as the context.", towards="lower"),
    Ladder(
        *_images("memory"),
        ("workers",),
        (1, _half_the_cores),
        "Each worker has a cache and an image encoder of its own.",
    ),
    # ---- images on TurboMind
    Ladder(
        *_turbomind("throughput"),
        ("max_batch_size",),
        (16, 32, 64, 128),
        "More prompts in a pass, until the GPU is full.",
    ),
    Ladder(
        *_turbomind("throughput"),
        ("max_concurrent_requests",),
        (32, 64, 96, 128, 192),
        "Enough requests in work that the next pass is always ready.",
    ),
    Ladder(
        *_turbomind("throughput"),
        ("max_prefill_token_num",),
        (4096, 8192, 16384),
        "One pass holds more whole prompts with their images.",
    ),
    Ladder(
        *_turbomind("throughput"),
        ("cache_max_entry_count",),
        (0.1, 0.2, 0.4),
        "A larger cache keeps more requests in work.",
    ),
    Ladder(
        *_turbomind(*_SPEED),
        ("decode_workers",),
        (4, 8, 12, 16),
        "More images are read and prepared while the GPU computes.",
    ),
    Ladder(
        *_turbomind("first-token-latency"),
        ("decode_in",),
        ("threads", "processes"),
        "Threads copy nothing, processes do not wait for Python's global lock.",
    ),
    Ladder(
        *_turbomind("memory"),
        ("max_batch_size",),
        (128, 64, 32, 16),
        "Fewer prompts in a pass need less memory for activations.",
        towards="lower",
    ),
    Ladder(
        *_turbomind("memory"),
        ("cache_max_entry_count",),
        (0.2, 0.1),
        "The cache takes that share of what the weights leave.",
        towards="lower",
    ),
    Ladder(
        *_turbomind(*_SPEED),
        ("quant_policy",),
        (0, 8, 4),
        "Requests of one token write a quantised cache and read it back.",
        changes_answers=True,
    ),
)


def ladders_for(preset: Preset, aim: Aim, *, keep_answers: bool) -> tuple[Ladder, ...]:
    """The ladders to walk for a preset, in order.

    Args:
        preset: with the values to start from.
        aim: what they are walked for.
        keep_answers: leave those out that may change answers.
    """
    place = "gpu" if preset.parameters.uses_gpu else "cpu"
    return tuple(
        ladder
        for ladder in LADDERS
        if (ladder.kind, ladder.backend) == (preset.kind, preset.parameters.backend)
        and aim in ladder.aims
        and ladder.where in ("any", place)
        and not (ladder.changes_answers and keep_answers)
    )
