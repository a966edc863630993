"""What a model takes of a GPU's memory, by part, from its description alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from fastinfer.engines.turbomind.settings import PASS_TOKENS, EngineSettings, slots_of
from fastinfer.errors import EngineOutOfMemoryError
from fastinfer.models import CheckpointInfo

__all__ = ["MemoryNeed", "check_memory", "memory_need"]

_GIB: Final = 2**30
#: TurboMind's cache consists of slabs of blocks (src/turbomind/memory/object.cc): of 32 MiB, doubled up to 1 GiB until
#: blocks fill 95 % of one, and aligned to 32 MiB.
_PAGE: Final = 32 * 2**20
_LARGEST_SLAB: Final = _GIB
_SLAB_FILLED: Final = 0.95
#: Bytes of the CUDA context, kernels and fixed buffers of TurboMind; 0.3 to 1.7 GiB measured on one H200.
_FIXED: Final = int(1.7 * _GIB)
#: Bytes of a row for each token of the vocabulary: its score in 16 and in 32 bits, and its place among the sorted.
_SCORE_BYTES: Final = 10
#: Tokens of a prompt with an image, at least.
_SHORTEST_PROMPT: Final = 64
#: Widths of activations that live at once, in hidden sizes per token of a pass, beside the two of the MLP.
_HIDDEN_WIDTHS: Final = 8


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes on each GPU.

    Attributes:
        weights: the model's, split over the GPUs of one replica; those saved in 32 bits are loaded in 16.
        head: the output matrix, kept a second time to score labels in float32.
        fixed: TurboMind's buffers and kernels, and the CUDA context.
        scores: the next token's scores over the vocabulary, and what choosing a token takes, for each row of a pass.
        rows: of a pass, as many as the settings allow.
        passing: activations of a pass, for each of its tokens.
        token: of the KV cache, for each token.
        block: tokens in a block of the KV cache.
        state: of the KV cache, for each request, whatever its length: what layers of linear attention keep.
        tokens: of a pass, as many as the settings allow.
        request: tokens of one full request, which the cache must hold beside those of a running pass.
        slots: TurboMind's longest prompt while it warms up is a pass and a token for each of them. It waits for room
            for that prompt forever.
    """

    weights: int
    head: int
    fixed: int
    scores: int
    rows: int
    passing: int
    token: int
    block: int
    state: int
    tokens: int
    request: int
    slots: int

    @property
    def activations(self) -> int:
        """Bytes of a full pass, fixed ones included."""
        return self.fixed + self.scores * self.rows + self.passing * self.tokens

    @property
    def cache(self) -> int:
        """Bytes that the cache must have at least."""
        blocks = _ceil(self.tokens, self.block) + _ceil(max(self.request, self.slots + 1), self.block)
        requests = _ceil(self.tokens, self.request) + 1
        return _slabs(blocks, self.token * self.block) + _slabs(requests, self.state) + _PAGE

    def fits(self, free: int, share: float) -> bool:
        """Whether all of it fits ``free`` bytes of which the cache gets ``share``, counted after the weights."""
        least, most = self.shares(free)
        return least <= share <= most

    def shares(self, free: int) -> tuple[float, float]:
        """The least and the greatest share of the cache with which all of it fits; none if the least is greater.

        TurboMind counts the cache's share after its fixed buffers too, or after a part of them.
        """
        rest = free - self.weights
        if rest <= self.fixed:
            return 1.0, 0.0
        return self.cache / (rest - self.fixed), (rest - self.head - self.activations) / rest


def memory_need(info: CheckpointInfo, settings: EngineSettings) -> MemoryNeed:
    """What the model takes with these settings.

    The KV cache holds for each token and layer of full attention a key and a value of ``kv_heads * head_dim`` numbers:
    16 bits each, or 8 or 4 with a scale and an offset of 16 bits for each head. Split over more GPUs than there are
    such heads, each GPU has a whole one. The states of linear attention, in 16 bits, come out of the same cache.
    """
    text = info.text
    bits = settings.quant_policy or 16
    scales = 32 if settings.quant_policy else 0
    heads = max(1, text.kv_heads // settings.tp)
    halves = 2 if info.dtype == "float32" and info.quantisation is None else 1
    widest = _mlp_width(info) // settings.tp + _HIDDEN_WIDTHS * text.hidden
    head = 0 if info.head is None else 2 * info.head.shape[0] * info.head.shape[1]
    return MemoryNeed(
        weights=info.weight_bytes // halves // settings.tp,
        head=head,
        fixed=_FIXED,
        scores=_SCORE_BYTES * text.vocabulary,
        rows=min(settings.slots, max(1, settings.session_len // _SHORTEST_PROMPT)),
        passing=2 * widest,
        block=settings.cache_block_seq_len,
        token=2 * (text.layers - text.linear_layers) * heads * (text.head_dim * bits + scales) // 8,
        state=2 * text.state_numbers // settings.tp,
        tokens=settings.max_prefill_token_num,
        request=settings.request_limit,
        slots=settings.slots,
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
    if need.fits(free, settings.cache_max_entry_count):
        return
    total = need.weights + need.head + need.activations + need.cache
    raise EngineOutOfMemoryError(
        f"{info.folder.name} does not fit {gpu}: {_gib(total)} are needed (weights {_gib(need.weights)}, "
        f"label scoring {_gib(need.head)}, activations {_gib(need.activations)}, "
        f"KV cache {_gib(need.cache)}), {_gib(free)} are free.",
        hint=_remedy(need, settings, free),
    )


def _remedy(need: MemoryNeed, settings: EngineSettings, free: int) -> str:
    """What to change, and to which value, so that :func:`check_memory` passes."""
    share = _share(need, settings, free)
    if share is not None:
        return f"{_moved(settings, share)}."
    # The engine is given a pass of max_batch_size requests or PASS_TOKENS, unless the preset asks for more tokens. A
    # smaller batch has fewer slots also where its pass is no shorter.
    for batch in range(settings.max_batch_size, 0, -1):
        slots = slots_of(batch)
        tokens = min(batch * need.request, PASS_TOKENS)
        less = replace(need, tokens=tokens, slots=slots, rows=min(slots, need.rows))
        lower_still = less.tokens < need.tokens or less.slots < need.slots
        share = _share(less, settings, free) if lower_still else None
        if share is None:
            continue
        lower = f"Lower max_batch_size from {settings.max_batch_size} to {batch}, with max_prefill_token_num at most"
        if batch == settings.max_batch_size:
            lower = f"Lower max_prefill_token_num from {need.tokens} to"
        also = "" if share == settings.cache_max_entry_count else f" {_moved(settings, share)} as well."
        return f"{lower} {less.tokens}, or free memory that others hold.{also}"
    return (
        "Take a smaller or quantised model (model_format), split it over several GPUs with tp, or free memory that "
        "others hold."
    )


def _share(need: MemoryNeed, settings: EngineSettings, free: int) -> float | None:
    """The cache's share with which all fits: the one that is set, else the roundest in the middle of those that do."""
    if need.fits(free, settings.cache_max_entry_count):
        return settings.cache_max_entry_count
    middle = sum(need.shares(free)) / 2
    rounded = (round(middle, digits) for digits in range(1, 7))
    return next((share for share in rounded if 0 < share < 1 and need.fits(free, share)), None)


def _moved(settings: EngineSettings, share: float) -> str:
    before = settings.cache_max_entry_count
    return f"{'Raise' if share > before else 'Lower'} cache_max_entry_count from {before:g} to {share:g}"


def _ceil(count: int, of: int) -> int:
    return -(-count // of)


def _slabs(count: int, size: int) -> int:
    """Bytes of the slabs that hold so many blocks of this size."""
    if not size:
        return 0
    slab = _PAGE << (_ceil(size, _PAGE) - 1).bit_length()
    while slab // size * size < _SLAB_FILLED * slab and 2 * slab <= _LARGEST_SLAB:
        slab *= 2
    return _ceil(count, slab // size) * slab


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
