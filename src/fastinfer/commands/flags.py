"""Every flag of the two servers, read from ``llama_server.toml`` and ``lmdeploy.toml``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastinfer.engines.turbomind.flags import FLAGS
from fastinfer.errors import PresetError
from fastinfer.preset_library.schema import Kind
from fastinfer.preset_library.validation import nearest
from fastinfer.toml_file import read_toml

__all__ = ["MODEL_PATH", "Flag", "Server", "server_of"]

#: What stands for the argument of ``lmdeploy serve api_server`` that has no flag.
MODEL_PATH: Final = "model_path"

_FLAG: Final = re.compile(
    r"(?P<names>\S+(?:,? \S+)*?)(?P<values>(?: \[?[A-Z]+(?:\.\.\.)?\]?)*)(?: \((?P<neutral>.+)\))?"
)
_ANY_NUMBER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a server.

    Attributes:
        spellings: all its spellings, short and long.
        opposites: those that turn the same thing off.
        fewest: the least number of values that follow it.
        most: the largest number of values that follow it.
        field: the preset's field that it fills; empty where there is none.
        why: why it fills none; empty where it does.
        refused: whether the command is refused for it, because without it the answers would be others.
        hint: what to do where it is refused.
        neutral: the value with which a refused flag changes nothing; empty where there is none.
        secret: the name of the variable that stands for its value; empty where the value may be shown.
        older: whether only older builds of the server know it.
    """

    spellings: tuple[str, ...]
    opposites: tuple[str, ...]
    fewest: int
    most: int
    field: str
    why: str
    refused: bool
    hint: str
    neutral: str
    secret: str
    older: bool

    @property
    def long(self) -> str:
        """The spelling that is written: the first long one."""
        return next((name for name in self.spellings if name.startswith("--")), self.spellings[0])


@dataclass(frozen=True, slots=True)
class Server:
    """A server's command line.

    Attributes:
        program: its name and subcommand.
        kind: the kind of preset its commands become.
        backend: the engine of that preset.
        flags: every flag by each of its spellings, opposites among them.
        defaults: what the server takes for a field that is not given, or what comes nearest to it.
        not_given: why that is only near, by field.
        shortened: whether the beginning of a long flag stands for it, as with Python's argparse.
    """

    program: str
    kind: Kind
    backend: str
    flags: Mapping[str, Flag]
    defaults: Mapping[str, object]
    not_given: Mapping[str, str]
    shortened: bool

    @property
    def fields(self) -> frozenset[str]:
        """The preset's fields that a flag fills."""
        return frozenset(flag.field for flag in self.flags.values() if flag.field)

    def spelling(self, field: str) -> str:
        """The flag that is written for a field."""
        return next(flag.long for flag in self.flags.values() if flag.field == field)

    def find(self, name: str) -> tuple[str, Flag]:
        """A flag and its full spelling.

        Args:
            name: as it was written, without a value; in a long flag ``_`` stands for ``-``.

        Raises:
            PresetError: the server has no such flag; the nearest right one is named.
        """
        spelling = name.replace("_", "-") if name.startswith("--") else name
        if spelling in self.flags:
            return spelling, self.flags[spelling]
        close = nearest(spelling, self.flags)[:1]
        if self.shortened and spelling.startswith("--") and len(spelling) > 2:
            longer = [known for known in self.flags if known.startswith(spelling)]
            if len(longer) == 1:
                return longer[0], self.flags[longer[0]]
            close = longer or close
        hint = f"Did you mean {' or '.join(close)}?" if close else f"{self.program} --help lists its flags."
        raise PresetError(f"{self.program} has no flag {name:.60}.", hint=hint)


def server_of(backend: str) -> Server:
    """The server that runs a preset's engine.

    Args:
        backend: ``"llama.cpp"`` or ``"turbomind"``.
    """
    return _llama_server() if backend == "llama.cpp" else _lmdeploy()


@cache
def _llama_server() -> Server:
    return _server("llama_server.toml", "chat", "llama.cpp", {}, shortened=False)


@cache
def _lmdeploy() -> Server:
    return _server("lmdeploy.toml", "classify", "turbomind", {flag.flag: flag.why for flag in FLAGS}, shortened=True)


def _server(file: str, kind: Kind, backend: str, reasons: Mapping[str, str], *, shortened: bool) -> Server:
    table = read_toml(Path(__file__).with_name(file))
    flags = [flag for group in table["group"] for flag in _flags(group, reasons)]
    return Server(
        program=table["program"],
        kind=kind,
        backend=backend,
        flags={name: flag for flag in flags for name in (*flag.spellings, *flag.opposites)},
        defaults=table["defaults"],
        not_given=table["not_given"],
        shortened=shortened,
    )


def _flags(group: Mapping[str, Any], reasons: Mapping[str, str]) -> Iterator[Flag]:
    for line in group["flags"]:
        parts = _FLAG.fullmatch(line)
        if parts is None:
            raise ValueError(f"{line!r} is not in the form of the table")
        names, _, opposites = parts["names"].partition(" / ")
        values = parts["values"].split()
        spellings = tuple(names.split(", "))
        field = group.get("field", "")
        yield Flag(
            spellings=spellings,
            opposites=tuple(opposites.split(", ")) if opposites else (),
            fewest=sum(not value.startswith("[") for value in values),
            most=_ANY_NUMBER if any("..." in value for value in values) else len(values),
            field=field,
            why="" if field else group.get("why") or reasons[spellings[0]],
            refused=group.get("refused", False),
            hint=group.get("hint", ""),
            neutral=parts["neutral"] or "",
            secret=group.get("secret", ""),
            older=group.get("older", False),
        )
