"""What a preset keeps of the command it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Command", "Remark"]


@dataclass(frozen=True, slots=True)
class Remark:
    """A flag that has no place in this process, or means something else there.

    Attributes:
        flag: as it was written; where the command leaves it out and the server's own choice cannot be a preset's value,
            its documented spelling.
        value: what was given; empty for a switch and for a flag that was left out, ``"***"`` for a secret.
        why: the reason, and what is used in its place.
    """

    flag: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.flag} {self.value}: {self.why}" if self.value else f"{self.flag}: {self.why}"


@dataclass(frozen=True, slots=True)
class Command:
    """The command a preset was read from.

    Attributes:
        program: the program and its subcommand as written, ``"llama-server"`` for example.
        text: the command on one line, with a variable's name (``$API_KEY``) in the place of each secret.
        remarks: what of it has no place in this process, in the command's order, then what it leaves to the server.
    """

    program: str
    text: str
    remarks: tuple[Remark, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold; :meth:`from_dict` reads it back."""
        return {**asdict(self), "remarks": [asdict(remark) for remark in self.remarks]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Command:
        """The command that :meth:`to_dict` wrote."""
        return cls(data["program"], data["text"], tuple(Remark(**remark) for remark in data["remarks"]))
