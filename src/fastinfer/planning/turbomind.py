"""What TurboMind takes of one GPU, expected rather than at most.

:mod:`fastinfer.engines.turbomind.memory` decides whether it is started at all, and is careful; here is what to expect.
The figures were measured with LMDeploy 0.18 on one H200 (``benchmarks/memory``).
"""

from __future__ import annotations

from typing import Final

from fastinfer.engines.turbomind.memory import memory_need
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.models import CheckpointInfo
from fastinfer.planning.need import MIB, PROMPT_TEXT, Need, Part

__all__ = ["CONTEXT", "turbomind_need"]

#: Bytes of CUDA's context and of torch, before the engine looks at how much is free.
CONTEXT: Final = 500 * MIB
#: Bytes of kernels, buffers of fixed size and CUDA's context.
_OVERHEAD: Final = 1290 * MIB
#: Bytes that are not counted as free when the cache takes its share, beside the weights: context, driver, buffers.
_NOT_FREE: Final = 1575 * MIB
#: Rows of scores that a pass has been seen to hold at most.
_ROWS: Final = 256
#: Bytes of the process: Python with torch and LMDeploy, CUDA's libraries, images in work.
_PROCESS: Final = 2000 * MIB


def turbomind_need(info: CheckpointInfo, settings: EngineSettings, memory: int) -> Need:
    """What one GPU of a replica gives to the engine, and what the process takes.

    Args:
        info: the checkpoint.
        settings: what the engine gets.
        memory: bytes of the GPU, as nvidia-smi shows them.
    """
    need = memory_need(info, settings)
    vision = info.vision_bytes * need.weights // max(1, info.weight_bytes)
    share = settings.cache_max_entry_count
    cache = max(0, round(share * (memory - need.weights - _NOT_FREE)))
    prompt = (info.image_tokens or 0) + PROMPT_TEXT
    images = "" if info.image_tokens is None else f", {cache // max(1, need.token * prompt):,} images' prompts"
    split = f" of 1/{settings.tp} of the model" if settings.tp > 1 else ""
    bits = settings.quant_policy or 16
    form = info.quantisation or settings.dtype
    return Need.of(
        [
            Part("weights", need.weights - vision, "gpu", f"language model, {form}{split}"),
            Part("vision encoder", vision, "gpu", "image encoder and its projector"),
            Part("label scoring", need.head, "gpu", "the output matrix again, for float32"),
            Part("KV cache", cache, "gpu", f"{share:g} of what is free, {bits} bits{images}"),
            Part("compute buffers", need.passing * need.tokens, "gpu", f"a pass of {need.tokens} tokens"),
            Part("logits", need.scores * min(need.rows, _ROWS), "gpu", "scores of the rows of a pass"),
            Part("overhead", _OVERHEAD, "gpu", "CUDA's context, kernels, fixed buffers"),
            Part("overhead", _PROCESS, "host", "the process with torch, LMDeploy and CUDA's libraries"),
        ]
    )
