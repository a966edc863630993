"""From a command to a preset, and from a preset to a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

from fastinfer.commands import llama_server, lmdeploy
from fastinfer.commands.command import Command
from fastinfer.commands.flags import MODEL_PATH, Server, server_of
from fastinfer.commands.line import Line, Option, program_words, read_line
from fastinfer.commands.reading import Reading
from fastinfer.commands.words import Word, given_words, shell_words
from fastinfer.errors import PresetError
from fastinfer.preset_library.files import builtin_layer
from fastinfer.preset_library.loader import preset_in
from fastinfer.preset_library.preset import Preset
from fastinfer.preset_library.schema import Kind
from fastinfer.preset_library.validation import parse_parameters

__all__ = ["from_command", "to_command"]

_SOURCE: Final = "command"
#: The built-in preset that has a say where a command has none: fields without a flag, a model that is not named.
_BESIDE: Final[Mapping[Kind, str]] = {"chat": "balanced", "classify": "prod"}
#: Setting a field may change what another one is by default; twice is enough for all there are.
_ROUNDS: Final = 3


def from_command(command: str | Sequence[str], *, name: str | None = None) -> Preset:
    """The preset that runs in this process as a command runs a server.

    A line for ``llama-server`` (or ``llama serve``) becomes a preset of kind "chat", one for ``lmdeploy serve
    api_server`` of kind "classify". Quotes, line continuations, comments and ``VARIABLE=value`` before the program are
    read as a POSIX shell would, but no shell is run: the only command that is understood within it is ``$(nproc)``,
    every usable core.

    What the command does not say is as the server has it by default; fields that no flag of the server fills are those
    of the built-in presets balanced and prod. ``preset.command.remarks`` has each flag without a place in this process,
    and each default of the server that a preset cannot have. Secrets are not kept.

    Args:
        command: the line as it is typed, or its words.
        name: the preset's name; None takes ``"llama-server"`` or ``"api_server"``.

    Raises:
        PresetError: the command starts no server that is known; a flag does not exist (the nearest one is named), has
            no value or an illegal one, contradicts another, or cannot be left out without changing the answers; or a
            value is one that only a shell knows.
    """
    line = read_line(_words(command))
    server = line.server
    reading = _read(line)
    default = preset_in([builtin_layer()], server.kind, _BESIDE[server.kind])
    name = server.program.split()[-1] if name is None else name
    if not name:
        raise PresetError("The preset's name is empty.", hint="Leave name out for the server's.")
    program = " ".join(line.program)
    return Preset(
        name=name,
        kind=server.kind,
        summary=f"What {program} runs with the command it was read from.",
        source=_SOURCE,
        parameters=parse_parameters(
            server.kind, {**default.parameters.model_dump(), **reading.values}, where=f"{server.program} command"
        ),
        command=Command(program, line.text, tuple(reading.remarks)),
    )


def to_command(preset: Preset, program: str | None = None) -> str:
    """The command that runs a server as a preset runs in this process; see :meth:`Preset.to_command`."""
    server = server_of(preset.parameters.backend)
    wanted = _module(server).equivalent(preset.parameters.model_dump())
    fields = [field for field in wanted if field in server.fields]
    fields.sort(key=lambda field: field != "model")  # which is first in both servers' documentation
    if preset.command is None:
        line = Line(server, (), tuple(server.program.split()), ())
        line = _rewritten(line, fields, wanted)
    else:
        line = read_line(shell_words(preset.command.text))
    if program is not None:
        line = replace(line, program=_program(program, server))
    for _ in range(_ROUNDS):
        found = _read(line).values
        differing = [field for field in fields if found.get(field, wanted[field]) != wanted[field]]
        if not differing:
            return line.text
        line = _rewritten(line, differing, wanted)
    raise PresetError(
        f"{preset.kind} preset {preset.name!r}: {differing[0]} {wanted[differing[0]]!r:.60} cannot be said to "
        f"{server.program}.",
        hint="Replace it with a value that the server knows.",
    )


def _words(command: str | Sequence[str]) -> list[Word]:
    if isinstance(command, str):
        return shell_words(command)
    if isinstance(command, Sequence) and all(isinstance(word, str) for word in command):
        return given_words(command)
    raise PresetError("The command is neither text nor a list of words.", hint="Give the line as it is typed.")


def _module(server: Server) -> ModuleType:
    return llama_server if server.kind == "chat" else lmdeploy


def _read(line: Line) -> Reading:
    reading: Reading = _module(line.server).read(line)
    return reading


def _program(text: str, server: Server) -> tuple[str, ...]:
    words = shell_words(text)
    named, count = program_words(words)
    if named is not server or count < len(words):
        raise PresetError(
            f"{text!r:.60} does not start {server.program}.", hint="Give the program alone, without flags."
        )
    return tuple(word.raw for word in words)


def _rewritten(line: Line, fields: Sequence[str], wanted: Mapping[str, Any]) -> Line:
    """The line with other values for some fields: in place where a flag is there already, else at its end."""
    parts: list[tuple[str, tuple[str, ...], Option | None]] = [
        (each.flag.field, each.raw, each) for each in line.options
    ]
    for field in fields:
        flags = _module(line.server).written(field, wanted)
        places = [index for index, part in enumerate(parts) if part[0] == field]
        place = places[-1] if places else len(parts)
        new: list[tuple[str, tuple[str, ...], Option | None]] = []
        for words in flags:
            like = None
            for index in places:
                option = parts[index][2]
                if option is not None and option.flag is line.server.flags[words[0]]:
                    like, place = option, index
            new.append((field, _spelt(words, like), None))
        kept = [part for index, part in enumerate(parts) if index < place and index not in places]
        parts = [*kept, *new, *(part for i, part in enumerate(parts) if i >= place and i not in places)]
    before = [*(setting.raw for setting in line.settings), *line.program]
    return read_line(shell_words(" ".join([*before, *(word for _, raw, _ in parts for word in raw)])))


def _spelt(words: tuple[str, ...], like: Option | None) -> tuple[str, ...]:
    """A flag with its values, in the spelling in which the command had it before."""
    flag, *values = words
    if flag == MODEL_PATH:
        return tuple(values)
    if like is None or not values:
        return words
    return (f"{like.name}={values[0]}",) if like.joined else (like.name, *values)
