"""From a checkpoint and settings to a running engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastinfer.engines.turbomind.binding import open_model
from fastinfer.engines.turbomind.configs import engine_config
from fastinfer.engines.turbomind.engine import TurbomindClassifyEngine
from fastinfer.engines.turbomind.importing import import_lmdeploy
from fastinfer.engines.turbomind.memory import check_memory
from fastinfer.engines.turbomind.pictures import Preparation
from fastinfer.engines.turbomind.prompt import PromptMaker
from fastinfer.engines.turbomind.rows import HiddenRows, Rows, ScoreRows
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineUnavailableError, ModelLoadError
from fastinfer.models import CheckpointInfo

__all__ = ["Opened", "open_engine"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A running engine, and how it scores rows, for provenance."""

    engine: TurbomindClassifyEngine
    path: str


def open_engine(
    info: CheckpointInfo,
    settings: EngineSettings,
    *,
    preparation: Callable[[str], Preparation | None],
    label_tolerance: float,
    trust_remote_code: bool,
) -> Opened:
    """Load a model onto the GPUs of ``settings``; all that can be known without them has been checked.

    Args:
        info: the model.
        settings: what TurboMind gets.
        preparation: how images are prepared, given the type that TurboMind computes in.
        label_tolerance: see :class:`fastinfer.engines.branches.BranchWalk`.
        trust_remote_code: run Python code that comes with the checkpoint.

    Raises:
        EngineUnavailableError: LMDeploy, its libraries, or CUDA's are not there or do not match the driver.
        EngineOutOfMemoryError: it does not fit what is free on the GPU.
        ModelLoadError: the checkpoint cannot be loaded.
    """
    import_lmdeploy()
    import torch

    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"torch {torch.__version__} cannot use the GPU that the driver sees.",
            hint="Install a torch for the driver's version of CUDA (nvidia-smi shows it), or update the driver.",
        )
    for device in settings.devices:
        free, _ = torch.cuda.mem_get_info(device)
        check_memory(info, settings, free=free, gpu=f"GPU {device} ({torch.cuda.get_device_name(device)})")
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
        prepared = preparation(model.dtype)
        if prepared is None:
            raise ModelLoadError(f"{info.folder}: there is no preparation of images for {info.architecture}.")
        engine = TurbomindClassifyEngine(
            model,
            rows,
            prompts,
            prepared,
            request_limit=settings.request_limit,
            in_flight=2 * settings.max_batch_size,
            label_tolerance=label_tolerance,
            device=", ".join(f"cuda:{device}" for device in settings.devices),
        )
    except BaseException:
        if rows is not None:
            rows.close()
        model.close()
        raise
    return Opened(engine, rows.path)
