"""A command's words put in order: what comes before the program, the program, and each flag with its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from fastinfer.commands.flags import MODEL_PATH, Flag, Server, server_of
from fastinfer.commands.words import Word, quoted
from fastinfer.errors import PresetError

__all__ = ["Line", "Option", "Setting", "program_words", "read_line"]

_SETTING: Final = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_SECRET: Final = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL")
_LLAMA: Final = re.compile(r"(?:.*[/\\])?llama(?P<server>-server)?(?:\.exe)?", re.DOTALL)
_LMDEPLOY: Final = re.compile(r"(?:.*[/\\])?lmdeploy(?:\.exe)?", re.DOTALL)
_PYTHON: Final = re.compile(r"(?:.*[/\\])?python[\d.]*(?:\.exe)?", re.DOTALL)
_NUMBER: Final = re.compile(r"-\d+|-\d*\.\d+", re.ASCII)
#: The values of a switch, which llama-server's flags take where older builds had a bare switch.
_STATES: Final = frozenset({"on", "off", "auto", "enabled", "disabled", "true", "false", "1", "0", "-1"})
_HOW: Final = "Begin with llama-server, or with lmdeploy serve api_server."


@dataclass(frozen=True, slots=True)
class Setting:
    """A variable that is set for the program, ``CUDA_VISIBLE_DEVICES=0`` for example.

    Attributes:
        name: of the variable.
        value: what it is set to; ``"***"`` for a secret.
        raw: the word as it is written, with the variable's own name in the place of a secret.
    """

    name: str
    value: str
    raw: str


@dataclass(frozen=True, slots=True)
class Option:
    """A flag as it is given.

    Attributes:
        flag: which.
        spelling: in full and with hyphens.
        name: as written.
        values: what follows it; ``("***",)`` for a secret.
        raw: its words as they are written, with a variable's name in the place of a secret.
        joined: whether flag and value are one word, ``--flag=value``.
    """

    flag: Flag
    spelling: str
    name: str
    values: tuple[str, ...]
    raw: tuple[str, ...]
    joined: bool

    @property
    def value(self) -> str:
        """Its values with blanks between them; empty where there is none."""
        return " ".join(self.values)

    @property
    def on(self) -> bool:
        """Whether it is not the opposite of the flag."""
        return self.spelling not in self.flag.opposites


@dataclass(frozen=True, slots=True)
class Line:
    """A whole command.

    Attributes:
        server: whose.
        settings: the variables that are set before the program.
        program: the words that start it.
        options: the flags, in order.
    """

    server: Server
    settings: tuple[Setting, ...]
    program: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def text(self) -> str:
        """The command on one line."""
        words = [setting.raw for setting in self.settings] + [*self.program]
        return " ".join([*words, *(word for option in self.options for word in option.raw)])


def read_line(words: Sequence[Word]) -> Line:
    """Put a command's words in order.

    Raises:
        PresetError: it starts no server that is known, has a flag that the server has not, a flag has too few values,
            or a value is one that only a shell knows.
    """
    before = 0
    while before < len(words) and _SETTING.match(words[before].raw):
        before += 1
    server, count = program_words(words[before:])
    start = before + count
    return Line(
        server=server,
        settings=tuple(_setting(word) for word in words[:before]),
        program=tuple(word.raw for word in words[before:start]),
        options=tuple(_options(server, words[start:])),
    )


def program_words(words: Sequence[Word]) -> tuple[Server, int]:
    """The server that a command starts, and how many words say so.

    Raises:
        PresetError: it starts none, or another one.
    """
    if not words:
        raise PresetError("The command is empty.", hint=_HOW)
    texts = [word.text for word in words[:5]]
    # As written: a POSIX shell takes the backslash out of .\llama-server.exe, and no shell of Windows does.
    program = _LLAMA.fullmatch(words[0].raw.strip("'\""))
    if program and program["server"]:
        return server_of("llama.cpp"), 1
    if program and texts[1:2] in (["serve"], ["server"]):
        return server_of("llama.cpp"), 2
    skipped = 0
    if _PYTHON.fullmatch(texts[0]) and texts[1:3] == ["-m", "lmdeploy"]:
        skipped = 2
    if (skipped or _LMDEPLOY.fullmatch(texts[0])) and texts[skipped + 1 : skipped + 3] == ["serve", "api_server"]:
        return server_of("turbomind"), skipped + 3
    raise PresetError(f"The command starts {' '.join(texts[:3])!r:.60}, which is no server that is known.", hint=_HOW)


def _setting(word: Word) -> Setting:
    name = word.raw.partition("=")[0]
    if name.startswith("LLAMA_ARG_"):
        raise PresetError(f"{name} sets a flag of llama-server by the environment.", hint="Write the flag itself.")
    if _SECRET.search(name.upper()):
        return Setting(name, "***", f"{name}=${name}")
    if word.reference:
        raise _unknown_value(name, word.reference)
    return Setting(name, word.text.partition("=")[2], word.raw)


def _options(server: Server, words: Sequence[Word]) -> Iterator[Option]:
    position, before, named = 0, server.program, False
    while position < len(words):
        word = words[position]
        position += 1
        if not word.text.startswith("-") or word.text == "-":
            if not server.shortened or named:
                raise PresetError(
                    f"{server.program}: after {before} there is a word that belongs to no flag.",
                    hint="Put a value with blanks in quotes, and two hyphens before a flag's name.",
                )
            named = True
            yield _option(server.flags[MODEL_PATH], MODEL_PATH, MODEL_PATH, [word], joined=False)
            continue
        name, equals, value = word.text.partition("=")
        joined = bool(equals) and name.startswith("--")
        before = name = name if joined else word.text
        spelling, flag = server.find(name)
        if joined and not flag.most:
            raise PresetError(f"{name} takes no value.", hint=f"Write {spelling} alone.")
        if joined:
            written = word.raw.removeprefix(f"{name}=")
            given = [replace(word, text=value, raw=quoted(value) if written == word.raw else written)]
        else:
            given = _values(server, flag, words[position : position + flag.most])
            position += len(given)
        if len(given) < flag.fewest:
            raise PresetError(f"{name} lacks its value.", hint=f"{server.program} expects one after it.")
        yield _option(flag, spelling, name, given, joined=joined)


def _values(server: Server, flag: Flag, words: Sequence[Word]) -> list[Word]:
    """Which of the words after a flag are its values."""
    if server.shortened:
        return list(takewhile(lambda word: _is_value(word.text), words))
    if flag.fewest < flag.most:
        return [word for word in words if word.text in _STATES or not word.text.startswith("-")]
    return list(takewhile(lambda word: word.text not in server.flags, words))


def _is_value(text: str) -> bool:
    """Whether Python's argparse takes a word for a value."""
    return not text.startswith("-") or text == "-" or " " in text or _NUMBER.fullmatch(text) is not None


def _option(flag: Flag, spelling: str, name: str, given: Sequence[Word], *, joined: bool) -> Option:
    values = [word.text for word in given]
    raws = [word.raw for word in given]
    if flag.secret and given:
        values, raws = ["***"], [f"${flag.secret}"]
    else:
        for word in given:
            if word.reference:
                raise _unknown_value(name, word.reference)
    if joined:
        raw: tuple[str, ...] = (f"{name}={raws[0]}",)
    else:
        raw = (*raws,) if name == MODEL_PATH else (name, *raws)
    return Option(flag, spelling, name, tuple(values), raw, joined)


def _unknown_value(name: str, reference: str) -> PresetError:
    return PresetError(
        f"{name}: only a shell knows what {reference:.60} is.", hint="Put the value itself in its place."
    )
