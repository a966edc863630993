"""A model found on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastinfer.errors import ModelLoadError
from fastinfer.models.gguf import check_gguf

__all__ = ["GgufModel", "Source", "checked_model", "without_projector"]

Source = Literal["package", "path", "hub"]


@dataclass(frozen=True, slots=True)
class GgufModel:
    """The files of a model, all of them on this machine, with sound headers.

    Attributes:
        name: as resolved: ``"embedded"``, ``"embedded-chat"``, the absolute path, or ``"org/repo:QUANT@COMMIT"``.
        model: the model file; the first part of a model split into several files, which lie beside it.
        projector: the file for images (and audio) that goes with it, or None for a model of text only.
        revision: the commit of the hub's repository, or None for a model that is not from the hub.
        source: ``"package"``, ``"path"`` or ``"hub"``.
    """

    name: str
    model: Path
    projector: Path | None
    revision: str | None
    source: Source


def without_projector(name: str) -> ModelLoadError:
    """The error of a model that cannot see and is asked to.

    Args:
        name: the model's.
    """
    return ModelLoadError(
        f"The model {name} has no vision projector.",
        hint="Put the mmproj GGUF file beside the model, or choose a vision model.",
    )


def checked_model(
    name: str, parts: Sequence[Path], projector: Path | None, *, revision: str | None, source: Source
) -> GgufModel:
    """The model made of these files, after :func:`check_gguf` on each.

    Args:
        name: as resolved.
        parts: the model's files, in order; at least one.
        projector: its projector, if any.
        revision: commit, if from the hub.
        source: where the files are from.

    Raises:
        ModelNotFoundError: a file is not there.
        ModelLoadError: a file is damaged or of the wrong kind.
    """
    headers = [check_gguf(part) for part in parts]
    if headers[0].kind == "mmproj":
        raise ModelLoadError(
            f"{parts[0]}: a projector (mmproj), not a model.", hint="Name the model; the projector beside it is found."
        )
    if headers[0].architecture is None:
        raise ModelLoadError(f"{parts[0]}: names no architecture, so it is no model.", hint="Name another file.")
    if projector is not None and check_gguf(projector).kind != "mmproj":
        raise ModelLoadError(
            f"{projector}: a model, though its name says projector (mmproj).", hint="Rename it, or move it elsewhere."
        )
    return GgufModel(name=name, model=parts[0], projector=projector, revision=revision, source=source)
