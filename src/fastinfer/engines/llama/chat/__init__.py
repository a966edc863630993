"""The chat engine on llama.cpp: continuous batching over parallel slots.

``engine`` is the way in; ``loop`` runs its steps with ``budget`` (how much of a prompt a step takes), ``memory``
(sequences, shared beginnings and what is kept, on ``cells`` and ``prefixes``) and ``sampler``; ``request`` is what goes
through them, ``counters`` what they report. Images in prompts are placed by ``pictures`` and evaluated by ``viewer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.cut import cut_for

if TYPE_CHECKING:
    from fastinfer.engines.llama.chat.engine import LlamaChatEngine

__all__ = ["LlamaChatConfig", "LlamaChatEngine", "cut_for"]


def __getattr__(name: str) -> Any:
    # The engine loads llama.cpp; its configuration is also made where the engine runs in another process.
    if name == "LlamaChatEngine":
        from fastinfer.engines.llama.chat.engine import LlamaChatEngine

        return LlamaChatEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
