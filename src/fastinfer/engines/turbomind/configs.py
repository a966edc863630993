"""LMDeploy's own configuration objects, made of :class:`fastinfer.engines.turbomind.settings.EngineSettings`.

LMDeploy's classes accept a field that they do not have and say nothing, so every name is compared with their fields
first. What each documented option becomes is in :mod:`fastinfer.engines.turbomind.flags`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fastinfer.engines.turbomind.importing import INSTALL_SUPPORTED, import_lmdeploy
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineUnavailableError

__all__ = ["engine_config", "generation_config", "vision_config"]


def engine_config(settings: EngineSettings) -> Any:
    """The ``lmdeploy.TurbomindEngineConfig`` of an engine.

    Raises:
        EngineUnavailableError: LMDeploy cannot be imported, or its class has other fields than those of 0.18.
    """
    return _made(
        "TurbomindEngineConfig",
        {
            "dtype": settings.dtype,
            "model_format": settings.model_format,
            "tp": settings.tp,
            "devices": list(settings.devices),
            "session_len": settings.session_len,
            "max_batch_size": settings.slots,
            "cache_max_entry_count": settings.cache_max_entry_count,
            "cache_block_seq_len": settings.cache_block_seq_len,
            "quant_policy": settings.quant_policy,
            "max_prefill_token_num": settings.max_prefill_token_num,
            "enable_prefix_caching": settings.enable_prefix_caching,
            "cache_prompt": settings.cache_prompt,
            "enable_metrics": False,
        },
    )


def vision_config(settings: EngineSettings) -> Any:
    """The ``lmdeploy.VisionConfig`` of an engine. TurboMind does not read it; LMDeploy's pipeline asks for it.

    Raises:
        EngineUnavailableError: as for :func:`engine_config`.
    """
    return _made("VisionConfig", {"max_batch_size": settings.vision_max_batch_size})


def generation_config(*, max_new_tokens: int, read_logits: bool) -> Any:
    """The ``lmdeploy.GenerationConfig`` of a request to LMDeploy's pipeline: the likeliest token each time.

    Args:
        max_new_tokens: the most tokens to generate, at least 1.
        read_logits: hand out the scores that each token was drawn from, and go on after an end token. LMDeploy leaves
            out the scores of an end token that ends the answer.

    Raises:
        EngineUnavailableError: as for :func:`engine_config`.
    """
    values: dict[str, object] = {"max_new_tokens": max_new_tokens, "do_sample": False, "ignore_eos": read_logits}
    if read_logits:
        values["output_logits"] = "generation"
    return _made("GenerationConfig", values)


def _made(name: str, values: Mapping[str, object]) -> Any:
    lmdeploy = import_lmdeploy()
    cls: Any = getattr(lmdeploy, name, None)
    known = {field.name for field in dataclasses.fields(cls)} if cls is not None else set()
    if missing := [field for field in values if field not in known]:
        raise EngineUnavailableError(
            f"{name} of LMDeploy {lmdeploy.__version__} has no field {', '.join(missing)}.",
            hint=f"Install the version that fastinfer was written for: {INSTALL_SUPPORTED}.",
        )
    return cls(**values)
