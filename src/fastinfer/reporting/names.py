"""Labels as they are compared, and texts as they are shown."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

__all__ = ["folded", "natural", "shown"]

_UNSHOWABLE: Final = ("Cc", "Cs")
_NUMBER: Final = re.compile(r"([0-9]+)")


@lru_cache(maxsize=1 << 14)
def folded(label: str) -> str:
    """A label as it is compared: Unicode NFC, white space folded, as label sets are before they are scored.

    Folders on some systems are named in another normal form than labels are typed in.
    """
    return " ".join(unicodedata.normalize("NFC", label).split())


def shown(text: str) -> str:
    """A text that every terminal, file and browser can take: control characters and lone surrogates are replaced.

    What joins or directs characters in a language's writing stays.
    """
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in _UNSHOWABLE else c for c in text)


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """What to sort names by so that 9 comes before 10."""
    parts = _NUMBER.split(name.casefold())
    return tuple((int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts))
