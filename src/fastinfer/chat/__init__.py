"""Chat: conversations in, replies out.

``opening`` turns a preset into a running model, ``model`` is that model. A chat's ``options`` and messages become an
``exchange``, whose reply comes whole (``pending``) or as it is generated (``streams``), through ``delivery`` from the
engine's thread; ``results`` is what the user gets.
"""

from fastinfer.chat.opening import llm
from fastinfer.chat.results import ChatTimings, Piece, Reply, Usage

__all__ = ["ChatTimings", "Piece", "Reply", "Usage", "llm"]
