"""Outlines of models on the hub: from its cache, else from the headers of its files, else from shapes known here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, NamedTuple

from fastinfer.models.checkpoint_hub import cached_checkpoint, files_of, missing_checkpoint
from fastinfer.models.config_fields import Fields
from fastinfer.models.gguf import read_gguf_header
from fastinfer.models.hub import GgufFiles, cached_files, choose_files, missing_files
from fastinfer.models.hub_access import hub_or_cache
from fastinfer.models.hub_file import hub_file
from fastinfer.models.hub_name import HubName, Listing
from fastinfer.models.known_shapes import known_checkpoint, known_gguf
from fastinfer.models.model import GgufModel, checked_model
from fastinfer.models.safetensors import INDEX, choose_weights

__all__ = ["FoundCheckpoint", "FoundGguf", "HubSource", "checkpoint_headers", "gguf_headers"]

HubSource = Literal["cache", "hub", "known shape"]

#: The files beside the weights that say what a checkpoint is.
_DESCRIBING: Final = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    INDEX,
)


class FoundGguf(NamedTuple):
    """A model in GGUF format whose files, or stand-ins for them, are on this machine.

    Attributes:
        commit: of its repository; empty for a known shape.
        model: its files.
        source: where they are from.
        note: what is assumed; empty where nothing is.
    """

    commit: str
    model: GgufModel
    source: HubSource
    note: str = ""


class FoundCheckpoint(NamedTuple):
    """A checkpoint in Hugging Face's form whose files, or stand-ins for them, are on this machine.

    Attributes:
        commit: of its repository; empty for a known shape.
        folder: where they lie.
        source: where they are from.
        note: what is assumed; empty where nothing is.
    """

    commit: str
    folder: Path
    source: HubSource
    note: str = ""


def gguf_headers(wanted: HubName, cache_dir: str | os.PathLike[str] | None, folder: Path) -> FoundGguf:
    """The headers of a model in GGUF format.

    Args:
        wanted: its name.
        cache_dir: folder of the hub's cache; None for huggingface_hub's own.
        folder: where stand-ins are put.

    Raises:
        ModelNotFoundError: no such model, the hub refuses it, or it is neither to be reached, nor is the model in the
            cache, nor its shape known.
        ModelLoadError: a file is damaged, or a stand-in cannot be written.
    """
    cache = _folder(cache_dir)

    def cached() -> FoundGguf | None:
        files = cached_files(wanted, cache)
        return None if files is None else FoundGguf(files.commit, files.checked(wanted), "cache")

    def known() -> FoundGguf | None:
        shape = known_gguf(wanted, folder)
        if shape is None:
            return None
        model = checked_model(shape.name, [shape.path], None, revision=None, source="hub")
        return FoundGguf("", model, "known shape", shape.note)

    # Without a quantisation the hub may prefer another file than the cache has.
    if wanted.quant is not None and (found := cached()) is not None:
        return found
    return hub_or_cache(
        wanted,
        cache,
        fetch=lambda listing: _gguf_from(wanted, listing, folder),
        cached=cached,
        missing=lambda: missing_files(wanted, cache),
        known=known,
    )


def checkpoint_headers(wanted: HubName, cache_dir: str | os.PathLike[str] | None, folder: Path) -> FoundCheckpoint:
    """The configuration files of a checkpoint in Hugging Face's form, and the headers of its weights.

    Args:
        wanted: its name, without a quantisation.
        cache_dir: folder of the hub's cache; None for huggingface_hub's own.
        folder: where stand-ins are put.

    Raises:
        ModelNotFoundError: as :func:`gguf_headers`.
        ModelLoadError: the repository has no config.json or no safetensors weights, the index of the weights is
            damaged, or a stand-in cannot be written.
    """
    cache = _folder(cache_dir)

    def cached() -> FoundCheckpoint | None:
        files = cached_checkpoint(wanted, cache, remote_code=False)
        return None if files is None else FoundCheckpoint(files.commit, files.folder, "cache")

    def known() -> FoundCheckpoint | None:
        shape = known_checkpoint(wanted, folder)
        return None if shape is None else FoundCheckpoint("", shape.path, "known shape", shape.note)

    return cached() or hub_or_cache(
        wanted,
        cache,
        fetch=lambda listing: _checkpoint_from(wanted, listing, folder),
        cached=cached,
        missing=lambda: missing_checkpoint(remote_code=False),
        known=known,
    )


def _folder(cache_dir: str | os.PathLike[str] | None) -> Path | None:
    return None if cache_dir is None else Path(cache_dir).expanduser()


def _gguf_from(wanted: HubName, listing: Listing, folder: Path) -> FoundGguf:
    def fetch(name: str) -> Path:
        with hub_file(wanted, listing, name, folder) as file:
            read_gguf_header(file, file.path, file.size)
            return file.path

    names, projector = choose_files(wanted, listing.files)
    commit = listing.commit or wanted.revision or ""
    files = GgufFiles(commit, [fetch(name) for name in names], None if projector is None else fetch(projector))
    return FoundGguf(commit, files.checked(wanted), "hub")


def _checkpoint_from(wanted: HubName, listing: Listing, folder: Path) -> FoundCheckpoint:
    names = files_of(wanted, listing.files)
    for name in _DESCRIBING:
        if name in names:
            with hub_file(wanted, listing, name, folder) as file:
                file.read()
    for name in choose_weights(f"Model {wanted}: the repository", names, Fields.read(folder / INDEX)):
        with hub_file(wanted, listing, name, folder) as file:
            file.read(int.from_bytes(file.read(8), "little"))  # the header, after its length
    return FoundCheckpoint(listing.commit or wanted.revision or "", folder, "hub")
