"""From the bytes of generated tokens to text that may be delivered."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from fastinfer.replies.seek import Seeker

__all__ = ["ReplyText"]


class ReplyText:
    """Decodes UTF-8 as it arrives and ends the text at the first stop string.

    The first is the one that begins earliest, among those at the same place the longest. What was delivered does not
    depend on how the bytes were cut into pieces.

    Args:
        stop: the stop strings; empty ones are ignored.

    Attributes:
        stopped: the stop string that ended the text, or None so far.
    """

    __slots__ = ("_decode", "_held", "_stop", "stopped")

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stop = Seeker(stop) if any(stop) else None
        self._held = ""
        self.stopped: str | None = None

    @property
    def held(self) -> str:
        """Text that waits because it is the proper beginning of a stop string."""
        return self._held

    def push(self, piece: bytes) -> str:
        """The text that ``piece`` lets be delivered: complete characters (U+FFFD for bytes that are not UTF-8), and
        nothing that may belong to a stop string.
        """
        text = self._decode(piece)
        return text if self._stop is None else self._cut(text, final=False)

    def finish(self) -> str:
        """What was held back, incomplete UTF-8 as U+FFFD, not past a stop string. Nothing follows."""
        text = self._decode(b"", True)
        return text if self._stop is None else self._cut(text, final=True)

    def _cut(self, text: str, *, final: bool) -> str:
        if self.stopped is not None or self._stop is None:
            return ""
        text = self._held + text
        place, self.stopped = self._stop.find(text, final=final)
        self._held = "" if self.stopped is not None else text[place:]
        return text[:place]
