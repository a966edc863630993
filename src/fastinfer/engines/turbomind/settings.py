"""What TurboMind is given for a preset: the preset's values, and where the engine needs others, those with the reason.

Pure arithmetic: nothing here loads LMDeploy, so it is the same on machines without a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastinfer.preset_library.schema import TurbomindClassifyParameters
from fastinfer.provenance import Adjustment

if TYPE_CHECKING:
    from fastinfer.models import CheckpointInfo

__all__ = ["PASS_TOKENS", "SESSION_TOKENS", "EngineSettings", "effective_settings", "replica_devices", "slots_of"]

#: Prompt tokens that one pass is given room for, unless the preset asks for more: LMDeploy's own default.
PASS_TOKENS: Final = 8192
#: The largest sum of context lengths in a pass that a session length is raised to.
SESSION_TOKENS: Final = 32768

#: Passes that a request holds its slot for: TurboMind plans a pass before it knows how the last one ended, and frees a
#: slot only after that.
_PASSES_OF_A_SLOT: Final = 3
#: Slots for each request of a batch: those passes, and room for the further rows of labels of several tokens, which are
#: many and cost a few tokens each. What a pass computes is bounded by its tokens, not by its slots.
_SLOTS_OF_A_REQUEST: Final = 8
#: The most slots that a batch is given for that; the most that were measured.
_MOST_SLOTS: Final = 512

_INT4: Final = 4
_INT8: Final = 8
_INT4_HEAD: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Every number that decides how one TurboMind engine runs. All are within the limits that it does not check.

    Attributes:
        dtype: ``"float16"``, ``"bfloat16"``, or ``"auto"``: LMDeploy's choice, for a quantised checkpoint or one that
            does not say how it was saved.
        model_format: how the weights are stored; None is read from the checkpoint.
        tp: GPUs that each layer is split over, 1 or more.
        devices: CUDA's numbers of these GPUs.
        session_len: the most context tokens of all requests in a pass together.
        max_batch_size: images that are computed together.
        in_flight: the most images that the engine is given at once.
        slots: the most requests that it holds at once, further rows of these images included.
        cache_max_entry_count: share of the GPU memory free after the weights that the KV cache gets, between 0 and 1.
        cache_block_seq_len: tokens in a block of the KV cache, a multiple of 64.
        quant_policy: bits of the KV cache: 0 (not quantised), 4 or 8.
        max_prefill_token_num: the most prompt tokens that a pass reads.
        enable_prefix_caching: whether a prompt that was read before is read again from the cache.
        cache_prompt: ``"all"`` keeps also the last, partly filled block of every prompt; ``"auto"`` only where it
            holds a part of an image.
        log_level: the least severe message of the engine that is shown.
        vision_max_batch_size: the preset's value; TurboMind does not read it.
        request_limit: the most tokens of one request, image tokens included. Checked by this library.
    """

    dtype: str
    model_format: str | None
    tp: int
    devices: tuple[int, ...]
    session_len: int
    max_batch_size: int
    in_flight: int
    slots: int
    cache_max_entry_count: float
    cache_block_seq_len: int
    quant_policy: int
    max_prefill_token_num: int
    enable_prefix_caching: bool
    cache_prompt: str
    log_level: str
    vision_max_batch_size: int
    request_limit: int


def replica_devices(parameters: TurbomindClassifyParameters) -> tuple[tuple[int, ...], ...]:
    """The GPUs of each replica that a preset asks for: ``tp`` of its devices each, in their order.

    Without devices it is one replica on the first ``tp`` GPUs.
    """
    devices = parameters.devices or tuple(range(parameters.tp))
    return tuple(devices[start : start + parameters.tp] for start in range(0, len(devices), parameters.tp))


def effective_settings(
    parameters: TurbomindClassifyParameters,
    info: CheckpointInfo | None,
    *,
    devices: tuple[int, ...],
    bfloat16: bool = True,
) -> tuple[EngineSettings, tuple[Adjustment, ...]]:
    """What one engine is given, and every difference from the preset.

    Args:
        parameters: the preset's values.
        info: the checkpoint; None where it is not known yet, and what depends on it stays as the preset has it.
        devices: the GPUs of this engine, ``tp`` of them.
        bfloat16: whether these GPUs compute in bfloat16, which those before Ampere (compute capability 8.0) do not.

    Returns:
        The settings and the adjustments, in the order of the preset's fields. ``strict=True`` is the caller's to
        enforce, with :func:`fastinfer.provenance.refuse_adjustments`.
    """
    adjustments: list[Adjustment] = []

    def adjusted(field: str, asked: object, used: object, why: str) -> None:
        if used != asked:
            adjustments.append(Adjustment(field, asked, used, why))

    limit, batch = parameters.session_len, parameters.max_batch_size
    slots = slots_of(batch)
    session = max(limit, min(slots * limit, SESSION_TOKENS))
    adjusted(
        "session_len",
        limit,
        session,
        f"TurboMind bounds all requests of a pass together by this number; a request is still held to {limit} tokens",
    )
    adjusted(
        "max_batch_size",
        batch,
        slots,
        f"a request counts in TurboMind for {_PASSES_OF_A_SLOT} passes and is computed in one, and labels of several "
        "tokens are further requests; what is computed together is held to a pass's tokens instead",
    )
    prefill = max(parameters.max_prefill_token_num, min(batch * limit, PASS_TOKENS))
    adjusted(
        "max_prefill_token_num",
        parameters.max_prefill_token_num,
        prefill,
        "a pass has to hold whole prompts, because TurboMind encodes an image again for every piece of its prompt",
    )
    bits = parameters.quant_policy
    if info is not None and bits == _INT4 and info.text.head_dim != _INT4_HEAD:
        bits = _INT8
        adjusted(
            "quant_policy",
            _INT4,
            bits,
            f"TurboMind's int4 cache takes attention heads {_INT4_HEAD} wide, and those of this model are "
            f"{info.text.head_dim}",
        )
    adjusted(
        "vision_max_batch_size",
        parameters.vision_max_batch_size,
        "as many as a pass holds",
        "TurboMind encodes the images of all prompts in a pass",
    )
    dtype, why = _dtype(parameters.dtype, info, bfloat16)
    if why:
        adjustments.append(Adjustment("dtype", parameters.dtype, dtype, why))
    if info is not None and parameters.max_tiles < info.tiles:
        adjusted("image_tiles", info.tiles, parameters.max_tiles, _tiling(info, parameters.max_tiles))
    settings = EngineSettings(
        dtype=dtype,
        model_format=None if parameters.model_format == "auto" else parameters.model_format,
        tp=parameters.tp,
        devices=devices,
        session_len=session,
        max_batch_size=batch,
        in_flight=min(_PASSES_OF_A_SLOT * batch, slots),
        slots=slots,
        cache_max_entry_count=parameters.cache_max_entry_count,
        cache_block_seq_len=parameters.cache_block_seq_len,
        quant_policy=bits,
        max_prefill_token_num=prefill,
        enable_prefix_caching=True,
        cache_prompt="all",
        log_level=parameters.log_level,
        vision_max_batch_size=parameters.vision_max_batch_size,
        request_limit=limit,
    )
    return settings, tuple(adjustments)


def slots_of(batch: int) -> int:
    """Slots that an engine gets for so many images in a batch."""
    return max(batch, min(_SLOTS_OF_A_REQUEST * batch, _MOST_SLOTS))


def _dtype(asked: str, info: CheckpointInfo | None, bfloat16: bool) -> tuple[str, str]:
    """The number format to compute in, and why it is neither the one asked for nor the one the model was saved in."""
    saved, quantisation = ("", None) if info is None else (info.dtype, info.quantisation)
    meant = saved if asked == "auto" else asked
    if not bfloat16 and meant != "float16":
        return "float16", "this GPU does not compute in bfloat16"
    if meant == "float16" and quantisation == "fp8":
        return "bfloat16", "TurboMind computes with FP8 weights in bfloat16 only"
    if meant == "float32":
        return "bfloat16", "the model was saved in 32 bits, and TurboMind computes in 16"
    if not saved or quantisation is not None:
        return asked, ""
    # Left at auto, LMDeploy asks text, encoder and pixels one by one, takes bfloat16 where one does not say, and ends
    # the process when pixels and encoder come out different.
    return meant, ""


def _tiling(info: CheckpointInfo, tiles: int) -> str:
    if tiles > 1:
        return f"images are cut into at most {tiles} tiles, so that each image costs at most {tiles + 1} times one tile"
    size = info.vision.image_size if info.vision is not None else None
    resized = f"images are resized to {size[0]}x{size[1]}, one tile" if size is not None else "images are one tile"
    return f"{resized}, so that each costs {info.image_tokens} tokens"
