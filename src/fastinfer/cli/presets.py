"""``fastinfer presets``, with ``import`` and ``export`` of servers' commands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from fastinfer.cli import output
from fastinfer.cli.explain import find_preset
from fastinfer.cli.inputs import STDIN
from fastinfer.cli.options import Debug, Json, PresetKind

__all__ = ["presets"]

_COLUMNS = (output.Column("Preset", style="bold"), output.Column("Kind, engine, model, source, and what it is for"))

presets = typer.Typer(invoke_without_command=True)


@presets.callback()
def list_presets(
    context: typer.Context,
    kind: Annotated[PresetKind | None, typer.Option(help="Only presets of this kind.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the presets: the built-in ones, and your own from fastinfer.toml.

    \b
    Examples:
      fastinfer presets
      fastinfer presets --kind chat --json
    """
    if context.invoked_subcommand is not None:
        return
    from fastinfer.preset_library import presets as find_presets

    found = find_presets(None if kind is None else kind.value)
    if json:
        for preset in found:
            output.json_line(preset.to_dict())
        return
    with output.rows(_COLUMNS) as add:
        for preset in found:
            facts = (preset.kind, preset.parameters.backend, preset.parameters.model, preset.source)
            purpose = _first_sentence(preset.summary)
            if output.on_terminal():
                # Six columns would be a few letters wide each.
                add(preset.name, (", ".join(facts), purpose))
            else:
                add(preset.name, *facts, purpose)


@presets.command("import")
def import_preset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name to save it under.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND...", help="The command in quotes, or its words after --; - reads it from standard input."
        ),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option("--from-file", metavar="FILE", help="Read the command from a file; - is standard input."),
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The preset file; fastinfer.toml in this folder by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a preset of this name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written, and write nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Save a preset that runs as a server's command does: llama-server, or lmdeploy serve api_server.

    What of the command has no place here is said on stderr.

    \b
    Examples:
      fastinfer presets import mine 'llama-server -m model.gguf -c 8192 -fa on'
      fastinfer presets import mine --from-file start.sh --dry-run
      fastinfer presets import photos -- lmdeploy serve api_server OpenGVLab/InternVL3-8B-hf
    """
    from fastinfer.commands import from_command
    from fastinfer.preset_library.saving import preset_toml, save_preset

    preset = from_command(_command(command or [], from_file), name=name)
    remarks = preset.command.remarks if preset.command is not None else ()
    path = None if dry_run else save_preset(preset, to, overwrite=overwrite)
    if json:
        output.json_line({"path": None if path is None else str(path), "preset": preset.to_dict()})
        return
    for remark in remarks:
        output.note(output.clean(remark))
    if path is None:
        output.text(preset_toml(preset))
    else:
        output.line(output.clean(f"{preset.kind} preset {name} saved in {path}"))


@presets.command("export")
def export_preset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A preset's name.")],
    kind: Annotated[PresetKind | None, typer.Option(help="Its kind, where both kinds have the name.")] = None,
    program: Annotated[str | None, typer.Option(help="What starts the server, ./llama-server for example.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the command that runs a server with a preset's values.

    \b
    Examples:
      fastinfer presets export balanced
      fastinfer presets export prod --kind classify
    """
    command = find_preset(name, kind).to_command(program=program)
    if json:
        output.json_line({"command": command})
    else:
        output.text(f"{command}\n")


def _command(words: list[str], file: str | None) -> str | list[str]:
    """The command from wherever it is to come."""
    if bool(words) == bool(file):
        raise typer.BadParameter("give the command or --from-file, and not both.", param_hint="COMMAND")
    source = file or (words[0] if words == [STDIN] else None)
    if source is None:
        return words[0] if len(words) == 1 else words
    from fastinfer.errors import PresetError

    try:
        raw = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
        return raw.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PresetError(f"{source}: the command cannot be read: {reason}.", hint="Name a text file.") from error


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
