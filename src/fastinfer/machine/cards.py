"""GPUs by name: memory, bandwidth and arithmetic of cards that need not be here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import PresetError
from fastinfer.preset_library.validation import nearest
from fastinfer.toml_file import read_toml

__all__ = ["Card", "cards", "find_card"]

_TABLE: Final = Path(__file__).with_name("cards.toml")
_MIB: Final = 2**20
#: What CUDA counts as memory of a card is 0.4 to 1.6 % less than what nvidia-smi shows.
_USABLE: Final = 0.985
#: Words of a card's name that say nothing which of them it is.
_NOISE: Final = re.compile(r"nvidia|geforce|tesla|graphics|device|gpu|generation|edition|[^a-z0-9]+")
_AMOUNT: Final = re.compile(r"(\d+)gi?b?$")
_SIZE: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(GiB|GB)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Card:
    """A model of GPU.

    Attributes:
        name: by which it is asked for, ``"A100-40GB"`` for example.
        driver: what NVIDIA's driver calls it, without "NVIDIA".
        memory: bytes, as nvidia-smi shows them.
        bandwidth: bytes a second between its memory and its cores; None where only the memory was given.
        flops: floating-point operations a second of dense 16-bit matrix products; likewise.
        capability: compute capability, (8, 0) for example; likewise.
        source: where these figures are from.
    """

    name: str
    driver: tuple[str, ...]
    memory: int
    bandwidth: float | None
    flops: float | None
    capability: tuple[int, int] | None
    source: str

    @property
    def usable(self) -> int:
        """Bytes that a program can have of an otherwise idle card."""
        return int(self.memory * _USABLE)


@cache
def cards() -> tuple[Card, ...]:
    """Every card of the table."""
    return tuple(_card(entry) for entry in read_toml(_TABLE)["card"])


def _card(entry: dict[str, Any]) -> Card:
    major, minor = entry["capability"].split(".")
    return Card(
        name=entry["name"],
        driver=tuple(entry["driver"]),
        memory=entry["memory"] * _MIB,
        bandwidth=entry["bandwidth"] * 1e9,
        flops=entry["tflops"] * 1e12,
        capability=(int(major), int(minor)),
        source=entry["source"],
    )


def find_card(name: str) -> Card:
    """The card of this name, however it is spelled: ``"A100-40GB"``, ``"a100 40g"``, ``"NVIDIA A100-SXM4-40GB"``.

    A name that fits several cards, such as ``"A100"``, is not guessed. ``"24GiB"`` is a card of which nothing is known
    but its memory.

    Raises:
        PresetError: there is no such card in the table, or several, or it has no memory; the hint names the nearest.
    """
    if found := _SIZE.fullmatch(name.strip()):
        size = int(float(found[1]) * (1000**3 if found[2].lower() == "gb" else 1024**3))
        if size == 0:
            raise PresetError(f"A card without memory: {name!r}.", hint="Give what it has, as in gpu='24GiB'.")
        return Card(name.strip(), (), size, None, None, None, "as given")
    wanted = _plain(name)
    exact = [card for card in cards() if wanted in {_plain(known) for known in (card.name, *card.driver)}]
    fitting = exact or [card for card in cards() if wanted and wanted in _plain(card.name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        several = ", ".join(card.name for card in fitting)
        raise PresetError(f"Several cards are called {name!r}: {several}.", hint="Name one of them.")
    names = {_plain(card.name): card.name for card in cards()}
    close = [names[plain] for plain in nearest(wanted, names)]
    raise PresetError(
        f"No card is known as {name!r}.",
        hint=(f"Did you mean {' or '.join(close)}? " if close else "")
        + f"Known are {', '.join(names.values())}; of another one give the memory, as in gpu='24GiB'.",
    )


def _plain(name: str) -> str:
    return _AMOUNT.sub(r"\1gb", _NOISE.sub("", name.lower()))
