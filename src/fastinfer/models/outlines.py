"""What a model is, from the headers of its files alone: nothing is loaded, and no weight is downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastinfer.models.checkpoint import CheckpointInfo, describe_checkpoint
from fastinfer.models.checkpoint_by_name import Checkpoint, locate_checkpoint
from fastinfer.models.filenames import parts
from fastinfer.models.gguf import GgufHeader, check_gguf
from fastinfer.models.model import GgufModel
from fastinfer.models.outline_hub import checkpoint_headers, gguf_headers
from fastinfer.models.resolve import locate_gguf
from fastinfer.models.stand_ins import stand_in_folder

__all__ = ["CheckpointOutline", "GgufOutline", "OutlineSource", "outline_checkpoint", "outline_gguf"]

OutlineSource = Literal["package", "path", "cache", "hub", "known shape"]


@dataclass(frozen=True, slots=True)
class GgufOutline:
    """What a model in GGUF format is.

    Attributes:
        name: as resolved: ``"embedded"``, ``"embedded-chat"``, the absolute path, ``"org/repo:QUANT@COMMIT"``, or
            ``"org/repo:QUANT"`` for a known shape.
        model: the file, or a stand-in for it: a file of the same length with the true header and a hole in place of
            the weights. Of a split model it is the first part; the others lie beside it under their own names.
        headers: of all parts, in order.
        projector: header of the file for images that goes with it, or None for a model of text only.
        source: where the headers are from: the package, a path, the hub's cache, the hub, or a shape that is known
            here.
        note: what is assumed, in a sentence; empty where nothing is.
    """

    name: str
    model: Path
    headers: tuple[GgufHeader, ...]
    projector: GgufHeader | None
    source: OutlineSource
    note: str


@dataclass(frozen=True, slots=True)
class CheckpointOutline:
    """What a checkpoint in Hugging Face's form is.

    Attributes:
        name: as resolved: the folder's absolute path, ``"org/repo@COMMIT"``, or ``"org/repo"`` for a known shape.
        info: what its files say; they, or stand-ins for them as in :class:`GgufOutline`, lie in ``info.folder``.
        source: where they are from: a path, the hub's cache, the hub, or a shape that is known here.
        note: what is assumed, in a sentence; empty where nothing is.
    """

    name: str
    info: CheckpointInfo
    source: OutlineSource
    note: str


@contextmanager
def outline_gguf(
    name: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None
) -> Iterator[GgufOutline]:
    """Find out what a model in GGUF format is; stand-ins for files that are not here are there as long as the block.

    The name is one that :func:`fastinfer.models.resolve_gguf` takes. Where that would ask the hub, its
    cache is looked at first: a model that is there completely, in the quantisation that is named, is read there. Else
    the headers are fetched from the hub, a few MiB of each file. Where the hub cannot be reached, the cache will do in
    any quantisation if none is named; and the shapes of the presets' default models are known here.

    Args:
        name: the model's name.
        cache_dir: folder of the hub's cache, in place of the one that the environment names.

    Raises:
        ModelNotFoundError: there is no such model, revision or quantisation, the hub refuses it, or it can neither be
            reached, nor is the model in the cache, nor its shape known.
        ModelLoadError: a header is damaged or of the wrong kind, a file cannot be read, or a stand-in not be written.
    """
    found = locate_gguf(name)
    if isinstance(found, GgufModel):
        yield _outline(found, "package" if found.source == "package" else "path", "")
        return
    with stand_in_folder(found.repo) as folder:
        files = gguf_headers(found, cache_dir, folder)
        yield _outline(files.model, files.source, files.note)


@contextmanager
def outline_checkpoint(
    name: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None
) -> Iterator[CheckpointOutline]:
    """Find out what a checkpoint is; stand-ins for files that are not here are there as long as the block.

    The name is one that :func:`fastinfer.models.resolve_checkpoint` takes; for the rest as :func:`outline_gguf`.

    Args:
        name: the model's name.
        cache_dir: folder of the hub's cache, in place of the one that the environment names.

    Raises:
        ModelNotFoundError: as :func:`outline_gguf`.
        ModelLoadError: the model is in GGUF format, its files are damaged or contradict each other, cannot be read, or
            a stand-in cannot be written.
    """
    found = locate_checkpoint(name)
    if isinstance(found, Checkpoint):
        yield CheckpointOutline(found.name, describe_checkpoint(found.folder), "path", "")
        return
    with stand_in_folder(found.repo) as folder:
        files = checkpoint_headers(found, cache_dir, folder)
        resolved = f"{found.repo}@{files.commit}" if files.commit else found.repo
        yield CheckpointOutline(resolved, describe_checkpoint(files.folder), files.source, files.note)


def _outline(model: GgufModel, source: OutlineSource, note: str) -> GgufOutline:
    headers = tuple(check_gguf(model.model.with_name(part)) for part in parts(model.model.name))
    projector = None if model.projector is None else check_gguf(model.projector)
    return GgufOutline(model.name, model.model, headers, projector, source, note)
