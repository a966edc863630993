"""Models on the Hugging Face hub and in its cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastinfer.errors import ModelNotFoundError
from fastinfer.models.filenames import choose_model, choose_projector, is_gguf, models, parts, quantisation
from fastinfer.models.hub_access import cached_snapshot, hub_or_cache
from fastinfer.models.hub_download import HubDownload
from fastinfer.models.hub_name import HubName, Listing, Missing
from fastinfer.models.model import GgufModel, checked_model

__all__ = ["GgufFiles", "cached_files", "choose_files", "missing_files", "model_from_hub"]


class GgufFiles(NamedTuple):
    """The files of a model of the hub on this machine, their headers not checked yet.

    Attributes:
        commit: of the repository.
        parts: the model's files, in order; at least one.
        projector: the projector's file, if there is one.
    """

    commit: str
    parts: list[Path]
    projector: Path | None

    def checked(self, wanted: HubName) -> GgufModel:
        """The model, after a look at the headers of its files.

        Raises:
            ModelLoadError: a file is damaged or of the wrong kind.
        """
        label = quantisation(self.parts[0].name)
        name = str(HubName(wanted.repo, label or wanted.quant, self.commit))
        return checked_model(name, self.parts, self.projector, revision=self.commit, source="hub")


def model_from_hub(wanted: HubName, cache_dir: str | os.PathLike[str] | None = None) -> GgufModel:
    """Fetch a model into the cache, or find it there where the hub cannot be reached.

    Args:
        wanted: its name.
        cache_dir: folder of the cache; None for huggingface_hub's own.

    Raises:
        ModelNotFoundError: no such model, the hub refuses it, it is neither to be reached nor in the cache, or it
            cannot be stored.
        ModelLoadError: a file is damaged, or did not arrive as it is on the hub.
    """
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    found = hub_or_cache(
        wanted,
        cache,
        fetch=lambda listing: _fetch(wanted, listing, cache),
        cached=lambda: cached_files(wanted, cache),
        missing=lambda: missing_files(wanted, cache),
    )
    return found.checked(wanted)


def choose_files(wanted: HubName, names: Iterable[str]) -> tuple[tuple[str, ...], str | None]:
    """The files of a model among those of its repository: all its parts in order, and its projector, if any.

    Raises:
        ModelNotFoundError: the repository has no such model, or lacks a part of it.
    """
    names = [name for name in names if is_gguf(name)]
    model = choose_model(names, wanted.quant)
    if model is None:
        raise _no_such_file(wanted, names)
    files = parts(model)
    if missing := sorted(set(files).difference(names)):
        raise ModelNotFoundError(f"Model {wanted}: the repository lacks part {missing[0]!r} of it.")
    return files, choose_projector(model, names)


def _fetch(wanted: HubName, listing: Listing, cache: Path | None) -> GgufFiles:
    files, projector = choose_files(wanted, listing.files)
    download = HubDownload(wanted, listing, cache)
    paths = download.fetch([*files, projector] if projector else files)
    download.remember_revision()
    return GgufFiles(download.commit, paths[: len(files)], paths[-1] if projector else None)


def cached_files(wanted: HubName, cache: Path | None) -> GgufFiles | None:
    """The model in the cache, or None where it is not there completely."""
    snapshot = cached_snapshot(wanted, cache, "*.gguf")
    if snapshot is None:
        return None
    names = _cached_names(snapshot)
    model = choose_model(names, wanted.quant)
    if model is None:
        return None
    projector = choose_projector(model, names)
    return GgufFiles(
        snapshot.name, [snapshot / name for name in parts(model)], None if projector is None else snapshot / projector
    )


def _cached_names(snapshot: Path) -> list[str]:
    """The GGUF files in the folder of a revision, without those of models that are not there completely."""
    names = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    broken = {model for model in models(names) if not names.issuperset(parts(model))}
    return sorted(name for name in names if is_gguf(name) and parts(name)[0] not in broken)


def _no_such_file(wanted: HubName, names: Sequence[str]) -> ModelNotFoundError:
    found = models(names)
    if not found:
        return ModelNotFoundError(
            f"Model {wanted}: the repository has no model in GGUF format.",
            hint="Name a repository with .gguf files; their names often end in -GGUF.",
        )
    labels = sorted({quantisation(path) or path for path in found})
    return ModelNotFoundError(
        f"Model {wanted}: the repository has no quantisation {wanted.quant!r}.", hint=f"It has {', '.join(labels)}."
    )


def missing_files(wanted: HubName, cache: Path | None) -> Missing:
    """What to say of a model that is not in the cache."""
    snapshot = cached_snapshot(wanted, cache, "*.gguf")
    names = [] if snapshot is None else models(_cached_names(snapshot))
    return Missing((f"*{wanted.quant}*", "*mmproj*") if wanted.quant else ("*.gguf",), names)
