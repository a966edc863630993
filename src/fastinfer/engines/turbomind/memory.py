"""What a model takes of a GPU's memory, by part, from its description alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.models import CheckpointInfo

__all__ = ["MemoryNeed", "check_memory", "memory_need"]

_GIB: Final = 2**30
#: Bytes of the CUDA context, kernels and fixed buffers of TurboMind; 0.3 to 1.7 GiB measured on one H200.
_FIXED: Final = int(1.7 * _GIB)
#: Widths of activations that live at once, in hidden sizes per token of a pass, beside the two of the MLP.
_HIDDEN_WIDTHS: Final = 8


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes on each GPU.

    Attributes:
        weights: the model's, split over the GPUs of one replica.
        head: the output matrix, kept a second time to score labels in float32.
        activations: of a pass with as many tokens as the settings allow, and TurboMind's fixed buffers.
        token: of the KV cache, for each token.
        tokens: that the cache must hold at least, so that one full request fits in beside a running pass.
    """

    weights: int
    head: int
    activations: int
    token: int
    tokens: int

    @property
    def cache(self) -> int:
        """Bytes that the cache must have at least."""
        return self.token * self.tokens


def memory_need(info: CheckpointInfo, settings: EngineSettings) -> MemoryNeed:
    """What the model takes with these settings.

    The KV cache holds for each token and layer a key and a value of ``kv_heads * head_dim`` numbers: 16 bits each, or
    8 or 4 with a scale and an offset of 16 bits for each head.
    """
    text = info.text
    bits = settings.quant_policy or 16
    scales = 32 if settings.quant_policy else 0
    token = 2 * text.layers * text.kv_heads * (text.head_dim * bits + scales) // 8 // settings.tp
    widest = _mlp_width(info) // settings.tp + _HIDDEN_WIDTHS * text.hidden
    passes = settings.max_prefill_token_num * 2 * widest
    head = 0 if info.head is None else 2 * info.head.shape[0] * info.head.shape[1]
    return MemoryNeed(
        weights=info.weight_bytes // settings.tp,
        head=head,
        activations=_FIXED + passes,
        token=token,
        tokens=settings.max_prefill_token_num + settings.request_limit,
    )


def check_memory(info: CheckpointInfo, settings: EngineSettings, *, free: int, gpu: str) -> None:
    """Refuse what would not fit, before TurboMind ends the process on it.

    Args:
        info: the model.
        settings: what TurboMind would get.
        free: bytes that are free on the GPU.
        gpu: what the error calls it.

    Raises:
        EngineOutOfMemoryError: it does not fit; the hint says what to lower and to which value.
    """
    need = memory_need(info, settings)
    rest = free - need.weights
    cache = int(settings.cache_max_entry_count * rest)
    if rest > 0 and cache >= need.cache and rest - cache >= need.head + need.activations:
        return
    total = need.weights + need.head + need.activations + need.cache
    raise EngineOutOfMemoryError(
        f"{info.folder.name} does not fit {gpu}: {_gib(total)} are needed (weights {_gib(need.weights)}, "
        f"label scoring {_gib(need.head)}, activations {_gib(need.activations)}, "
        f"KV cache {_gib(need.cache)}), {_gib(free)} are free.",
        hint=_remedy(need, settings, rest, cache),
    )


def _remedy(need: MemoryNeed, settings: EngineSettings, rest: int, cache: int) -> str:
    beside = need.head + need.activations
    if rest <= need.head + _FIXED + need.cache // 8:
        return "Take a smaller or quantised model (model_format), or split it over several GPUs with tp."
    if rest >= beside + need.cache:
        # Enough in all, but shared out wrongly.
        low, high = need.cache / rest, (rest - beside) / rest
        wanted = round((low + high) / 2, 3)
        verb = "Raise" if cache < need.cache else "Lower"
        return f"{verb} cache_max_entry_count from {settings.cache_max_entry_count:g} to {wanted:g}."
    share = (rest - need.head - _FIXED) / (need.activations - _FIXED + need.cache)
    batch = max(1, int(settings.max_batch_size * share * 0.9))
    return f"Lower max_batch_size from {settings.max_batch_size} to {batch}, or free memory that others hold."


def _mlp_width(info: CheckpointInfo) -> int:
    config = info.config
    for key in ("text_config", "llm_config"):
        part = config.get(key)
        if isinstance(part, dict) and isinstance(part.get("intermediate_size"), int):
            return int(part["intermediate_size"]) * 2
    value = config.get("intermediate_size")
    return 2 * value if isinstance(value, int) else 8 * info.text.hidden


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
