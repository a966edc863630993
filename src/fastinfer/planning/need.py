"""What a configuration takes, part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["GIB", "MIB", "PROMPT_TEXT", "Need", "Part", "Place", "size_text"]

MIB: Final = 2**20
GIB: Final = 2**30
#: Tokens of a classification prompt beside its image: the built-in question with a few labels.
PROMPT_TEXT: Final = 40

#: Memory of the GPU, or of the machine.
Place = Literal["gpu", "host"]


@dataclass(frozen=True, slots=True)
class Part:
    """One use of memory.

    Attributes:
        name: ``"weights"``, ``"KV cache"``, ``"compute buffers"``, ``"logits"``, ``"vision encoder"``,
            ``"label scoring"`` or ``"overhead"``.
        size: bytes.
        place: whose memory.
        detail: what it consists of, in a few words.
    """

    name: str
    size: int
    place: Place
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {"name": self.name, "bytes": self.size, "place": self.place, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Need:
    """All parts of a configuration."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Need:
        """The need of these parts; those of no size are left out."""
        return cls(tuple(part for part in parts if part.size > 0))

    def total(self, place: Place) -> int:
        """Bytes of one memory."""
        return sum(part.size for part in self.parts if part.place == place)


def size_text(size: float) -> str:
    """Bytes as people read them: ``"24.3 GiB"``, ``"812 MiB"``."""
    if abs(size) >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{size / MIB:.0f} MiB" if abs(size) >= 10 * MIB else f"{size / MIB:.1f} MiB"
