"""The chat engine on llama.cpp: continuous batching over parallel slots.

``engine`` is the way in; ``loop`` runs its steps with ``budget`` (how much of a prompt a step takes), ``memory``
(sequences, shared beginnings and what is kept, on ``cells`` and ``prefixes``) and ``sampler``; ``request`` is what goes
through them, ``counters`` what they report. Images in prompts are placed by ``pictures`` and evaluated by ``viewer``.
"""

from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.engine import LlamaChatEngine, Ticket
from fastinfer.engines.llama.chat.sampler import cut_for

__all__ = ["LlamaChatConfig", "LlamaChatEngine", "Ticket", "cut_for"]
