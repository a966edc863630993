"""What of a conversation that has been evaluated another request can go on from, however the KV cache is laid out."""

from __future__ import annotations

from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.context import LlamaContext

__all__ = ["LEAST_FOLLOWED", "LEAST_KEPT", "SharingMemory"]

#: A conversation shorter than this is not worth a sequence of its own.
LEAST_KEPT = 16
#: A prompt that another request is just evaluating is waited for when it saves at least this many tokens.
LEAST_FOLLOWED = 32


class SharingMemory:
    """What the accounts of both layouts have in common.

    Args:
        context: the context.
        chunk: shortest stretch of a kept conversation to be moved to another position and used there; 0 none.
        whole_only: the model's memory can only be continued where it ends (recurrent models).
    """

    def __init__(self, context: LlamaContext, *, chunk: int, whole_only: bool) -> None:
        self._context = context
        self._chunk = chunk if context.can_shift else 0
        self._whole_only = whole_only

    @property
    def moves(self) -> bool:
        """Stretches of kept conversations are used at other positions."""
        return self._chunk > 0

    def _shared(self, request: Request, sequence: int, length: int) -> int:
        """How much of a beginning of this length that a sequence has can be continued by the request."""
        length = request.whole(length)
        return length if length and self._context.holds(sequence, request.position(length)) else 0

    def _usable(self, length: int, whole: int) -> int:
        return length if not self._whole_only or length == whole else 0
