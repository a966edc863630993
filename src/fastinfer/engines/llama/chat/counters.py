"""What an engine has done so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.tally import ErrorCounts, Histogram

__all__ = ["Counters", "Occupancy", "slot_state"]


class Occupancy(NamedTuple):
    """What an engine has, and how much of it is taken.

    Attributes:
        slots: requests that can run side by side.
        cells: cells of the KV cache.
        cells_used: of these, cells that hold tokens, of conversations kept for a next turn too.
    """

    slots: int
    cells: int
    cells_used: int


@dataclass(slots=True)
class Counters:
    """Sums over the engine's life; written by its thread only, but for ``errors``.

    Attributes:
        prompt_tokens: prompt tokens evaluated.
        cached_tokens: prompt tokens that were found in the cache.
        prompt_seconds: time of steps without running replies, and the share of prompts in the others by rows.
        predicted_tokens: tokens generated.
        predicted_seconds: the rest of the steps' time.
        steps: calls of llama_decode.
        busy: running slots, summed over steps.
        most_tokens: most tokens a request has had.
        finished, failed, cancelled, preempted: requests.
        decode_seconds, wait_seconds, sample_seconds: in llama.cpp: launching, waiting, choosing tokens.
        step_seconds: steps from beginning to end; what is left after the three above is Python.
        errors: requests that failed, or were refused.
        queue: seconds from submission until a slot took a request.
        first_token: seconds from submission to a reply's first token.
        between_tokens: seconds from each token of a reply to its next.
        whole: seconds from submission to the end of a reply.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_seconds: float = 0.0
    predicted_tokens: int = 0
    predicted_seconds: float = 0.0
    steps: int = 0
    busy: int = 0
    most_tokens: int = field(default=0, metadata={"join": max})
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    preempted: int = 0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    sample_seconds: float = 0.0
    step_seconds: float = 0.0
    errors: ErrorCounts = field(default_factory=ErrorCounts)
    queue: Histogram = field(default_factory=Histogram)
    first_token: Histogram = field(default_factory=Histogram)
    between_tokens: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)

    def metrics(self, *, processing: int, deferred: int) -> dict[str, float]:
        """The values under llama-server's names, with its prefix."""
        values = {
            "prompt_tokens_total": self.prompt_tokens,
            "prompt_tokens_cached_total": self.cached_tokens,
            "prompt_seconds_total": self.prompt_seconds,
            "tokens_predicted_total": self.predicted_tokens,
            "tokens_predicted_seconds_total": self.predicted_seconds,
            "n_decode_total": self.steps,
            "n_tokens_max": self.most_tokens,
            "prompt_tokens_seconds": self.prompt_tokens / self.prompt_seconds if self.prompt_seconds else 0.0,
            "predicted_tokens_seconds": self.predicted_tokens / self.predicted_seconds
            if self.predicted_seconds
            else 0.0,
            "requests_processing": processing,
            "requests_deferred": deferred,
            "n_busy_slots_per_decode": self.busy / self.steps if self.steps else 0.0,
        }
        return {f"llamacpp:{name}": value for name, value in values.items()}

    def profile(self, *, graphs_reused: float) -> dict[str, float]:
        """Where the steps' time went."""
        return {
            "steps": self.steps,
            "graphs_reused": graphs_reused,
            "decode_seconds": self.decode_seconds,
            "wait_seconds": self.wait_seconds,
            "sample_seconds": self.sample_seconds,
            "step_seconds": self.step_seconds,
        }


def slot_state(index: int, n_ctx: int, request: Request | None) -> dict[str, Any]:
    """A slot under llama-server's field names."""
    if request is None:
        return {"id": index, "n_ctx": n_ctx, "is_processing": False}
    generation = request.generation
    sampling = generation.sampling
    most = generation.max_tokens
    return {
        "id": index,
        "n_ctx": n_ctx,
        "is_processing": True,
        "id_task": request.number,
        "n_prompt_tokens": request.prompt_length,
        "n_prompt_tokens_processed": max(0, min(request.done, request.prompt_length) - request.cached),
        "n_prompt_tokens_cache": request.cached,
        "params": {
            "n_predict": -1 if most is None else most,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_last_n": sampling.repeat_last_n,
            "repeat_penalty": sampling.repeat_penalty,
            "seed": request.sampler.seed if request.sampler else sampling.seed,
            "stop": list(generation.stop),
        },
        "next_token": {
            "has_next_token": True,
            "n_remain": -1 if most is None else most - request.predicted,
            "n_decoded": request.predicted,
        },
    }
