"""From a checkpoint and settings to a running engine."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from fastinfer.engines.base import ClassifyEngine
from fastinfer.engines.turbomind.binding import open_model
from fastinfer.engines.turbomind.configs import engine_config
from fastinfer.engines.turbomind.engine import TurbomindClassifyEngine
from fastinfer.engines.turbomind.importing import import_lmdeploy
from fastinfer.engines.turbomind.memory import check_memory
from fastinfer.engines.turbomind.pictures import Preparation, preparation_for
from fastinfer.engines.turbomind.pipeline import open_pipeline
from fastinfer.engines.turbomind.pipeline_model import ImageLimits
from fastinfer.engines.turbomind.prompt import PLACES, PromptMaker
from fastinfer.engines.turbomind.rows import HiddenRows, Rows, ScoreRows
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineUnavailableError
from fastinfer.models import CheckpointInfo

__all__ = ["open_engine", "preparation_of"]


def preparation_of(info: CheckpointInfo, limits: ImageLimits, dtype: str) -> Preparation | None:
    """How images are prepared for a model that computes in ``dtype``; None where LMDeploy's pipeline has to do it."""
    return preparation_for(
        info, dtype=dtype, max_tiles=limits.max_tiles, min_pixels=limits.min_pixels, max_pixels=limits.max_pixels
    )


def open_engine(
    info: CheckpointInfo,
    settings: EngineSettings,
    *,
    limits: ImageLimits,
    label_tolerance: float,
    trust_remote_code: bool,
) -> ClassifyEngine:
    """Load a model onto the GPUs of ``settings``; all that can be known without them has been checked.

    Args:
        info: the model.
        settings: what TurboMind gets.
        limits: how large an image may be.
        label_tolerance: see :class:`fastinfer.engines.branches.BranchWalk`.
        trust_remote_code: run Python code that comes with the checkpoint.

    Raises:
        EngineUnavailableError: LMDeploy, its libraries, or CUDA's are not there or do not match the driver.
        EngineOutOfMemoryError: it does not fit what is free on the GPU.
        ModelLoadError: the checkpoint cannot be loaded.
    """
    # TurboMind reads this once in a process; LMDeploy's own messages go through its logger.
    os.environ.setdefault("TM_LOG_LEVEL", settings.log_level)
    import_lmdeploy()
    logging.getLogger("lmdeploy").setLevel(settings.log_level)
    import torch

    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"torch {torch.__version__} cannot use the GPU that the driver sees.",
            hint="Install a torch for the driver's version of CUDA (nvidia-smi shows it), or update the driver.",
        )
    direct = info.architecture in PLACES and preparation_of(info, limits, "bfloat16") is not None
    if not direct:
        info = replace(info, head=None)  # it is not kept a second time
    for device in settings.devices:
        free, _ = torch.cuda.mem_get_info(device)
        check_memory(info, settings, free=free, gpu=f"GPU {device} ({torch.cuda.get_device_name(device)})")
    if not direct:
        return open_pipeline(info, settings, limits, trust_remote_code=trust_remote_code)
    hidden = info.head is not None
    model = open_model(info.folder, engine_config(settings), trust_remote_code=trust_remote_code, hidden_rows=hidden)
    rows: Rows | None = None
    try:
        prompts = PromptMaker(model.tokenizer, info)
        rows = (
            ScoreRows(prompts.end_tokens, model.vocabulary)
            if info.head is None
            else HiddenRows(info.head, model.dtype, settings.devices[0], prompts.end_tokens)
        )
        prepared = preparation_of(info, limits, model.pixel_dtype)
        assert prepared is not None  # as for bfloat16 above
        return TurbomindClassifyEngine(
            model,
            rows,
            prompts,
            prepared,
            request_limit=settings.request_limit,
            in_flight=settings.in_flight,
            slots=settings.slots,
            label_tolerance=label_tolerance,
            device=", ".join(f"cuda:{device}" for device in settings.devices),
        )
    except BaseException:
        if rows is not None:
            rows.close()
        model.close()
        raise
