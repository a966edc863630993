"""From a name to a chat template."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastinfer.errors import ModelLoadError, PresetError

from .template import ChatTemplate

if TYPE_CHECKING:
    from fastinfer.engines.chat import Vocabulary

__all__ = ["find_template", "template_names"]

#: Strings that end a reply where the vocabulary has no token for it: else it goes on with the next question.
_STOP = {"chatml": ("<|im_end|>",), "transcript": ("\nUser:", "\nAssistant:")}
_LARGEST = 4 << 20  # characters of a template


@cache
def _packaged() -> dict[str, str]:
    folder = files("fastinfer.prompts") / "templates"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".jinja"))
    return {name.removesuffix(".jinja"): (folder / name).read_text(encoding="utf-8") for name in found}


def template_names() -> tuple[str, ...]:
    """Names of the templates that come with the library."""
    return tuple(_packaged())


def find_template(name: str, vocabulary: Vocabulary) -> ChatTemplate:
    """The chat template of a name, for a model.

    Args:
        name: ``"auto"`` for the GGUF file's own (for Seed-OSS models without a thinking budget in it: ``"seed_oss"``);
            one of :func:`template_names`; the path of a ``.jinja`` file; or Jinja itself.
        vocabulary: of the model.

    Raises:
        ModelLoadError: the file or the model has no template, or it is no Jinja.
        PresetError: no template has this name.
    """
    if name == "auto":
        return _own(vocabulary)
    if name in _packaged():
        return _make(_packaged()[name], name, vocabulary)
    if "{{" in name or "{%" in name:
        return _make(name, "given", vocabulary)
    if name.endswith((".jinja", ".jinja2", ".j2")):
        return _make(_read(Path(name).expanduser()), Path(name).name, vocabulary)
    names = ", ".join(("auto", *_packaged()))
    raise PresetError(
        f"There is no chat template {name!r:.200}.",
        hint=f"Names are {names}; or give the path of a .jinja file, or Jinja itself.",
    )


def _own(vocabulary: Vocabulary) -> ChatTemplate:
    source = vocabulary.chat_template()
    is_seed = vocabulary.architecture == "seed_oss"
    if is_seed and not (source and "thinking_budget" in source):
        return _make(_packaged()["seed_oss"], "seed_oss", vocabulary)
    # llama.cpp names a template of its own where it knows the model but the file has none; that is no Jinja.
    if not source or not re.search(r"\{[{%]", source):
        raise ModelLoadError(
            "The model's file has no chat template.",
            hint='Name one with chat_template: "chatml", a .jinja file, or "transcript" for a base model.',
        )
    tool_use = vocabulary.chat_template("tool_use")
    return _make(
        source,
        "auto",
        vocabulary,
        tool_use=_make(tool_use, "tool_use", vocabulary) if tool_use else None,
    )


def _make(source: str, name: str, vocabulary: Vocabulary, *, tool_use: ChatTemplate | None = None) -> ChatTemplate:
    return ChatTemplate(
        source, name=name, bos=vocabulary.bos, eos=vocabulary.eos, stop=_STOP.get(name, ()), tool_use=tool_use
    )


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            source = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ModelLoadError(f"The chat template {path} cannot be read: {reason}.", hint="Check the path.") from error
    if len(source) > _LARGEST:
        raise ModelLoadError(f"The chat template {path} is longer than {_LARGEST} characters.", hint="Check the path.")
    return source
