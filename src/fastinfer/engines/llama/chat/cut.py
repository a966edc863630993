"""How many candidates have to be looked at for a choice that is the same as among all."""

from __future__ import annotations

from fastinfer.engines.chat import Sampling

__all__ = ["cut_for", "penalises"]


def cut_for(sampling: Sampling, always: int = 0) -> int:
    """The number of likeliest candidates among which the next token is for certain; 0 where it can be any.

    Args:
        sampling: the options.
        always: tokens whose score is lowered in any case (those that end a reply, where it must not end).
    """
    lowered = [bias for _, bias in sampling.logit_bias]
    if sampling.top_k <= 0 or any(bias > 0 for bias in lowered):
        return 0
    looked_back = 0
    if penalises(sampling):
        if sampling.repeat_penalty < 1 or sampling.frequency_penalty < 0 or sampling.presence_penalty < 0:
            return 0
        if sampling.repeat_last_n < 0:
            return 0
        looked_back = sampling.repeat_last_n
    return sampling.top_k + looked_back + len(lowered) + always


def penalises(sampling: Sampling) -> bool:
    """The options make repetition less likely."""
    return sampling.repeat_last_n != 0 and (
        sampling.repeat_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0
    )
