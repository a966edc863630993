"""The user's own images or prompts, for commands that measure with them, and the options that name them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fastinfer.cli.inputs import find_images, read_text
from fastinfer.cli.options import PresetKind

if TYPE_CHECKING:
    from fastinfer.preset_library import Kind

__all__ = ["Images", "Labels", "Model", "Prompts", "ReplyTokens", "Sample", "SampleKind", "read_sample"]

Images = Annotated[str | None, typer.Option(metavar="DIR", help="Images of your own: a folder of them, or a file.")]
Prompts = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Prompts of your own, one a line; or lists of messages, as JSON lines."),
]
SampleKind = Annotated[PresetKind | None, typer.Option("--kind", help="Its kind; what the sample says otherwise.")]
Model = Annotated[str | None, typer.Option(help="The model; by default the preset's own.")]
Labels = Annotated[
    list[str] | None, typer.Option("--labels", "-l", metavar="A,B", help="Labels to choose from, for images.")
]
ReplyTokens = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens generated for each prompt.")]


class Sample(NamedTuple):
    """Images or conversations, and the kind of preset that takes them."""

    kind: Kind
    items: list[Any]


def read_sample(images: str | None, prompts: str | None, kind: PresetKind | None) -> Sample | None:
    """The sample of ``--images`` or ``--prompts``; None where neither is given.

    Raises:
        typer.BadParameter: both are given, they do not go with ``--kind``, the file cannot be read, or it is empty.
    """
    if images is not None and prompts is not None:
        raise typer.BadParameter("give --images or --prompts, not both.")
    if images is None and prompts is None:
        return None
    found: Kind = "classify" if images is not None else "chat"
    if kind is not None and kind.value != found:
        raise typer.BadParameter(
            f"a preset of kind {kind.value} takes {'--prompts' if found == 'classify' else '--images'}."
        )
    if images is not None:
        return Sample(found, [image.source for image in find_images([images])])
    assert prompts is not None
    return Sample(found, _read_prompts(prompts))


def _read_prompts(file: str) -> list[Any]:
    """A prompt a line: text, or in JSON a list of messages or an object with ``messages``."""
    lines = read_text(file, "prompts file").splitlines()
    prompts = [_prompt(line) for line in lines if line.strip()]
    if not prompts:
        raise typer.BadParameter(f"no prompts in {file}.")
    return prompts


def _prompt(line: str) -> Any:
    if line.lstrip()[0] not in "[{":
        return line
    try:
        value = json.loads(line)
    except ValueError:
        return line  # text that begins with a bracket
    return value["messages"] if isinstance(value, dict) and "messages" in value else value
