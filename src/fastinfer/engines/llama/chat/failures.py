"""Errors of a request that llama.cpp does not evaluate, or evaluates to nothing of use."""

from __future__ import annotations

from fastinfer.errors import EngineError

__all__ = ["no_numbers", "no_room", "refused"]


def refused() -> EngineError:
    """llama_decode returned -1 for it alone."""
    return EngineError(
        "llama.cpp refuses to evaluate this request (code -1).", hint="The logger 'fastinfer.llama' says why."
    )


def no_numbers() -> EngineError:
    """Its scores are NaN."""
    return EngineError(
        "llama.cpp computed scores that are no numbers.",
        hint="The model's file or the device may be damaged; try another quantisation, flash_attn off, or the CPU.",
    )


def no_room() -> EngineError:
    """llama_decode returned 1 for it alone."""
    return EngineError(
        "llama.cpp has no room for this request, though nothing else runs.",
        hint="Raise n_ctx, or shorten the conversation.",
    )
