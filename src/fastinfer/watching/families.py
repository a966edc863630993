"""What is told of engines: names, meanings, and where each number comes from.

llama-server's names are used where it has one for the thing; the others are named in the manner of LMDeploy's server,
with this library's prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CHAT", "ENGINE", "GPU", "IMAGES", "LLAMA_SERVER", "NOTED_ERRORS", "Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric.

    Attributes:
        name: as it is exposed; of a histogram without ``_bucket``, ``_count`` and ``_sum``.
        kind: a counter never falls while the process lives; a gauge is about now.
        help: what it means, for people.
        labels: what tells its values apart.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ("alias",)


#: Errors that are told of with 0 before the first, so that the first one is seen as an increase.
NOTED_ERRORS: Final = {
    "classify": ("EngineDeadError", "EngineError", "ImageDecodeError", "QueueFullError", "RequestTimeoutError"),
    "chat": ("EngineDeadError", "EngineError", "PromptTooLongError", "QueueFullError", "RequestTimeoutError"),
}

#: Of chat engines, by llama-server's name. It calls ``n_tokens_max`` a counter, which Prometheus has no such kind of.
LLAMA_SERVER: Final = {
    f"llamacpp:{name}": Family(f"llamacpp:{name}", "counter" if name.endswith("_total") else "gauge", text)
    for name, text in {
        "prompt_tokens_total": "Prompt tokens that were evaluated; those found in the cache are not among them.",
        "prompt_tokens_cached_total": "Prompt tokens that were found in the KV cache and not evaluated again.",
        "prompt_seconds_total": "Seconds spent on prompts.",
        "tokens_predicted_total": "Tokens that were generated.",
        "tokens_predicted_seconds_total": "Seconds spent on generating tokens.",
        "n_decode_total": "Calls of llama_decode, each of them a step for all slots.",
        "n_tokens_max": "Most tokens a finished request has had, its prompt included.",
        "prompt_tokens_seconds": "Prompt tokens evaluated per second spent on prompts, since the engine was opened.",
        "predicted_tokens_seconds": "Tokens generated per second spent on them, since the engine was opened.",
        "requests_processing": "Requests that have a slot now: the slots that are busy.",
        "requests_deferred": "Requests that wait for a slot now.",
        "n_busy_slots_per_decode": "Slots that took part in a step, on average since the engine was opened.",
    }.items()
}

#: Of chat engines besides.
CHAT: Final = {
    "slots": Family("fastinfer:slots", "gauge", "Requests that can run side by side."),
    "cells": Family("fastinfer:kv_cache_cells", "gauge", "Tokens that the KV cache can hold."),
    "cells_used": Family(
        "llamacpp:kv_cache_tokens",
        "gauge",
        "Tokens that the KV cache holds now, those of finished conversations included, which make room when needed.",
    ),
    "cache_use": Family("llamacpp:kv_cache_usage_ratio", "gauge", "How full the KV cache is; 1 is full."),
    "requests": Family(
        "fastinfer:requests_total", "counter", "Requests that have ended, by how they did.", ("alias", "outcome")
    ),
    "preempted": Family(
        "fastinfer:requests_preempted_total",
        "counter",
        "Times that a request gave its room in the KV cache to others, to go on later.",
    ),
    "queue": Family(
        "fastinfer:request_queue_time_seconds", "histogram", "Seconds from handing a request over to having a slot."
    ),
    "first_token": Family(
        "fastinfer:time_to_first_token_seconds",
        "histogram",
        "Seconds from handing a request over to the first token of its reply.",
    ),
    "between_tokens": Family(
        "fastinfer:inter_token_latency_seconds", "histogram", "Seconds from each token of a reply to the next."
    ),
    "whole": Family(
        "fastinfer:e2e_request_latency_seconds", "histogram", "Seconds from handing a request over to its whole reply."
    ),
}

#: Of classifiers.
IMAGES: Final = {
    "answered": Family("fastinfer:images_total", "counter", "Images that were classified."),
    "cancelled": Family(
        "fastinfer:images_cancelled_total", "counter", "Images that were taken back before they were computed."
    ),
    "waiting": Family(
        "fastinfer:images_waiting", "gauge", "Images that were handed over and that nobody has begun to read."
    ),
    "in_work": Family(
        "fastinfer:images_in_work",
        "gauge",
        "Images in work, by stage: read, decoded and resized, or in the engine with its queue.",
        ("alias", "stage"),
    ),
    "latency": Family(
        "fastinfer:image_latency_seconds", "histogram", "Seconds from beginning to read an image to its answer."
    ),
    "decode": Family(
        "fastinfer:image_decode_seconds", "histogram", "Seconds of reading, decoding and resizing an image."
    ),
    "queue": Family(
        "fastinfer:image_queue_seconds", "histogram", "Seconds that an image waited in the engine's queue."
    ),
    "encode": Family(
        "fastinfer:image_encode_seconds",
        "histogram",
        "Seconds of the image encoder for a batch, divided by the images in it; 0 on TurboMind, which does not tell.",
    ),
    "score": Family(
        "fastinfer:image_score_seconds",
        "histogram",
        "Seconds of the language model for a batch, divided by the images in it; on TurboMind all of the time in it.",
    ),
    "batch": Family(
        "fastinfer:image_batch_size", "histogram", "Images that were computed together, one entry for each of them."
    ),
}

#: Of every engine.
ENGINE: Final = {
    "info": Family(
        "fastinfer:engine_info",
        "info",
        "An engine that is open: always 1.",
        ("alias", "kind", "engine", "model", "preset", "fingerprint", "device", "version"),
    ),
    "errors": Family(
        "fastinfer:errors_total",
        "counter",
        "Images and requests that failed, were refused or came too late, by the class of the error.",
        ("alias", "type"),
    ),
}

#: Of the GPUs that open engines use, whoever takes their memory.
GPU: Final = {
    "used": Family(
        "fastinfer:gpu_memory_used_bytes", "gauge", "Bytes of a GPU's memory in use by anyone.", ("device",)
    ),
    "total": Family("fastinfer:gpu_memory_total_bytes", "gauge", "Bytes of memory that a GPU has.", ("device",)),
}
