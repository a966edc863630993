"""``lmdeploy.pipeline`` as its documentation shows it, in a process of its own."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from typing import Any

from .work import Done, Work

#: What the peers are asked to generate at most for a picture, in tokens: enough for a label.
REPLY = 8


def documented(head_size: int) -> dict[str, Any]:
    """The documented flags as fields of TurbomindEngineConfig; with heads of 64, int4 would end the process."""
    return {
        "session_len": 512,
        "max_batch_size": 32,
        "cache_max_entry_count": 0.2,
        "cache_block_seq_len": 64,
        "max_prefill_token_num": 128,
        "quant_policy": 4 if head_size == 128 else 0,
    }


def open_pipeline(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any], Callable[[], None]]:
    """Open ``lmdeploy.pipeline``.

    Args:
        options: ``model``; ``prompt``, the question; ``engine``, fields of TurbomindEngineConfig; ``vision_batch`` or
            None for the default.
    """
    import lmdeploy
    import torch
    import transformers
    from lmdeploy import GenerationConfig, TurbomindEngineConfig, VisionConfig
    from PIL import Image

    begun = time.perf_counter()
    vision = options["vision_batch"]
    pipe = lmdeploy.pipeline(
        options["model"],
        backend_config=TurbomindEngineConfig(enable_metrics=False, **options["engine"]),
        log_level="ERROR",
        **({} if vision is None else {"vision_config": VisionConfig(max_batch_size=vision)}),
    )
    # LMDeploy changes to its PyTorch engine with no more than a warning.
    if pipe.async_engine.backend != "turbomind":
        raise RuntimeError(f"lmdeploy.pipeline chose the engine {pipe.async_engine.backend}")
    generation = GenerationConfig(max_new_tokens=REPLY, do_sample=False)
    info = {
        "engine": options["engine"],
        "versions": {
            "lmdeploy": lmdeploy.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "start_seconds": round(time.perf_counter() - begun, 1),
    }

    def message(image: bytes) -> list[dict[str, Any]]:
        picture = Image.open(io.BytesIO(image)).convert("RGB")
        content = [
            {"type": "image_data", "image_data": {"data": picture}},
            {"type": "text", "text": options["prompt"]},
        ]
        return [{"role": "user", "content": content}]

    def ask(images: list[bytes]) -> list[Any]:
        return list(pipe([message(image) for image in images], gen_config=generation))

    def handle(work: Work) -> Done:
        each: list[float] = []
        replies = []
        started = time.perf_counter()
        if work.how == "one by one":
            for image in work.images:
                begun = time.perf_counter()
                replies += ask([image])
                each.append((time.perf_counter() - begun) * 1e3)
        else:
            replies = ask(work.images)
        seconds = time.perf_counter() - started
        ends = [str(reply.finish_reason) for reply in replies]
        good = [reply for reply, end in zip(replies, ends, strict=True) if end in ("stop", "length")]
        return Done(
            seconds,
            len(good),
            each,
            statistics.median(reply.input_token_len for reply in good) if good else 0.0,
            statistics.fmean(reply.generate_token_len for reply in good) if good else 0.0,
            [f"finish_reason {end}" for end in ends if end not in ("stop", "length")],
        )

    return info, handle, pipe.close
