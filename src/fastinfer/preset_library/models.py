"""Which model to load for a preset, and who named it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from fastinfer.errors import PresetError
from fastinfer.preset_library.preset import Preset
from fastinfer.preset_library.schema import Kind

__all__ = ["ModelChoice", "default_model"]

_VARIABLES: Final[Mapping[Kind, str]] = {"classify": "FASTINFER_CLASSIFY_MODEL", "chat": "FASTINFER_CHAT_MODEL"}


class ModelChoice(NamedTuple):
    """A model's name and where it was named.

    Attributes:
        model: the name, as :func:`fastinfer.classifier` and :func:`fastinfer.llm` take it.
        origin: ``"argument"``, the environment variable's name, or the preset and its source.
    """

    model: str
    origin: str


def default_model(kind: Kind, preset: Preset, argument: str | os.PathLike[str] | None = None) -> ModelChoice:
    """The model to load for a preset, and where it was named.

    In this order: the argument; a model set with ``preset.replace(model=...)``, which the program's author wrote just
    as plainly; the environment variable FASTINFER_CLASSIFY_MODEL or FASTINFER_CHAT_MODEL; the preset's own model. The
    variable holds for every preset of the kind, the embedded one too. A variable that is empty counts as not set.

    Args:
        kind: ``"classify"`` or ``"chat"``, the preset's kind.
        preset: the preset.
        argument: the model the caller named, or None.

    Raises:
        PresetError: the preset is of another kind, or the argument is empty.
    """
    if preset.kind != kind:
        raise PresetError(
            f"Preset {preset.name!r} is of kind {preset.kind!r}, not {kind!r}.",
            hint=f"fastinfer.presets(kind={kind!r}) lists the presets of that kind.",
        )
    if argument is not None:
        model = os.fspath(argument)
        if not model:
            raise PresetError("The model's name is empty.", hint="Leave model out for the preset's own model.")
        return ModelChoice(model, "argument")
    if "model" not in preset.replaced:
        variable = _VARIABLES[kind]
        if model := os.environ.get(variable, ""):
            return ModelChoice(model, variable)
    return ModelChoice(preset.parameters.model, f"preset {preset.name!r} ({preset.source})")
