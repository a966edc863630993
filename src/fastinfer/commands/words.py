"""A command's text to its words, as a POSIX shell divides them; nothing is run, and no variable is looked up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastinfer.errors import PresetError

__all__ = ["CORES", "Word", "given_words", "quoted", "shell_words"]

#: What a command says for the number of cores.
CORES: Final = "$(nproc)"

_LONGEST: Final = 1 << 17  # characters; Linux takes no longer argument either
_CORES: Final = r"\$\(\s*nproc(?:\s+--all)?\s*\)|`\s*nproc(?:\s+--all)?\s*`"
_REFERENCE: Final = r"\$\{[^}]*\}|\$\([^)]*\)|`[^`]*`|\$[\w?@!*#-]+"
_PIECE: Final = re.compile(
    rf"""(?P<blank>[ \t\r]+)|(?P<newline>\n)|(?P<continued>\\\r?\n)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"
    |\\(?P<escaped>.)|(?P<cores>{_CORES})|(?P<reference>{_REFERENCE})|(?P<operator>[;&|<>()])
    |(?P<plain>[^\s'"\\$`;&|<>()]+|\$(?![({{])|[^\S \t\r\n]+)""",
    re.VERBOSE | re.DOTALL,
)
_INSIDE: Final = re.compile(
    rf"""(?P<cores>{_CORES})|(?P<reference>{_REFERENCE})|\\(?P<escaped>["\\$`])|(?P<continued>\\\r?\n)""", re.VERBOSE
)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command.

    Attributes:
        raw: as it is written, with its quotes.
        text: what the program would get.
        reference: the first variable or command in it whose value only a shell knows; None where there is none.
    """

    raw: str
    text: str
    reference: str | None = None


def quoted(text: str) -> str:
    """Text as a word of a shell's command."""
    return text if text == CORES else shlex.quote(text)


def given_words(words: Sequence[str]) -> list[Word]:
    """Words that are divided already, of which none is a shell's to change."""
    return [Word(quoted(text), text) for text in words]


def shell_words(text: str) -> list[Word]:
    """The words of one command; ``$(nproc)`` in any spelling becomes :data:`CORES`, comments are left out.

    Raises:
        PresetError: a quote is not closed, there is more than one command, or the text is longer than a shell takes.
    """
    if len(text) > _LONGEST:
        raise PresetError(f"The command has {len(text)} characters.", hint=f"A command has at most {_LONGEST}.")
    words: list[Word] = []
    raw, value, reference = "", "", None
    position, ended = 0, False
    while position < len(text):
        if text[position] == "#" and not raw:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
            continue
        piece = _PIECE.match(text, position)
        if piece is None:
            raise PresetError(
                f"Line {_line(text, position)} of the command: {text[position]!r} is not closed.",
                hint="Close the quote or the bracket, or put a backslash before it.",
            )
        position = piece.end()
        kind = piece.lastgroup
        if kind in ("blank", "newline"):
            if raw:
                words.append(Word(raw, value, reference))
                raw, value, reference = "", "", None
            ended = ended or (kind == "newline" and bool(words))
            continue
        if kind == "continued":
            continue
        if kind == "operator" or ended:
            raise PresetError(
                f"Line {_line(text, piece.start())} of the command: {piece[0]:.40} begins something else.",
                hint="Give the server's command alone; a line that goes on ends with a backslash and nothing after it.",
            )
        raw += piece[0]
        if kind == "double":
            inner, found = _inside(piece["double"])
        elif kind == "cores":
            inner, found = CORES, None
        elif kind == "reference":
            inner, found = piece[0], piece[0]
        else:
            inner, found = piece[kind or 0], None
        value += inner
        reference = reference or found
    return [*words, Word(raw, value, reference)] if raw else words


def _inside(text: str) -> tuple[str, str | None]:
    """What double quotes hold, and the first variable or command in it."""
    reference: str | None = None

    def replaced(piece: re.Match[str]) -> str:
        nonlocal reference
        if piece["cores"]:
            return CORES
        if piece["reference"]:
            reference = reference or piece[0]
            return piece[0]
        return piece["escaped"] or ""

    return _INSIDE.sub(replaced, text), reference


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
