"""Checkpoints in Hugging Face's form on the hub and in its cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from fastinfer.errors import ModelLoadError
from fastinfer.models.checkpoint import read_config
from fastinfer.models.config_fields import Fields
from fastinfer.models.hub_access import cached_snapshot, hub_or_cache
from fastinfer.models.hub_download import HubDownload
from fastinfer.models.hub_name import HubName, Listing, Missing
from fastinfer.models.safetensors import INDEX, check_weight_files, choose_weights

__all__ = ["CheckpointFiles", "cached_checkpoint", "checkpoint_from_hub", "files_of", "missing_checkpoint"]

_CONFIG: Final = "config.json"
_TEXTS: Final = (".json", ".jinja", ".txt", ".model", ".tiktoken")  # configurations, vocabularies and chat templates
_UNWANTED: Final = (".bin.index.json", "trainer_state.json")
_CODE: Final = ".py"


class CheckpointFiles(NamedTuple):
    """A checkpoint in the cache.

    Attributes:
        commit: of the repository.
        folder: where its files lie.
    """

    commit: str
    folder: Path


def checkpoint_from_hub(
    wanted: HubName, cache_dir: str | os.PathLike[str] | None, *, remote_code: bool
) -> CheckpointFiles:
    """Fetch a checkpoint into the cache, or find it there where the hub cannot be reached.

    Fetched are the files of the repository's uppermost folder: configurations, vocabularies, chat templates, and the
    safetensors files of the weights; never weights in PyTorch's format. The weights are fetched last, so that a
    checkpoint whose weights are complete is complete.

    Args:
        wanted: its name, without a quantisation.
        cache_dir: folder of the cache; None for huggingface_hub's own.
        remote_code: fetch its Python files too.

    Raises:
        ModelNotFoundError: no such repository, the hub refuses it, it is neither to be reached nor in the cache, or it
            cannot be stored.
        ModelLoadError: the repository has no config.json or no safetensors weights, they are damaged, or a file did
            not arrive as it is on the hub.
    """
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    return hub_or_cache(
        wanted,
        cache,
        fetch=lambda listing: _fetch(wanted, listing, cache, remote_code),
        cached=lambda: cached_checkpoint(wanted, cache, remote_code=remote_code),
        missing=lambda: missing_checkpoint(remote_code=remote_code),
    )


def files_of(wanted: HubName, names: Iterable[str]) -> list[str]:
    """The files of a checkpoint among those of its repository: the ones in the uppermost folder.

    Raises:
        ModelLoadError: the repository has no config.json or no safetensors weights, so it is no checkpoint.
    """
    names = [name for name in names if "/" not in name]
    if _CONFIG not in names:
        raise ModelLoadError(
            f"Model {wanted}: the repository has no {_CONFIG}, so it is no checkpoint in Hugging Face's form.",
            hint="Name a repository with config.json and .safetensors files; preset 'embedded' runs .gguf files.",
        )
    if INDEX not in names:
        choose_weights(f"Model {wanted}: the repository", names, None)  # refused before anything is fetched
    return names


def _fetch(wanted: HubName, listing: Listing, cache: Path | None, remote_code: bool) -> CheckpointFiles:
    names = files_of(wanted, listing.files)
    download = HubDownload(wanted, listing, cache)
    folder = download.fetch([_CONFIG])[0].parent
    download.fetch(name for name in names if _is_text(name) or (remote_code and name.endswith(_CODE)))
    index = Fields.read(folder / INDEX) if INDEX in names else None
    download.fetch(choose_weights(f"Model {wanted}: the repository", names, index))
    download.remember_revision()
    return CheckpointFiles(download.commit, folder)


def _is_text(name: str) -> bool:
    return name.endswith(_TEXTS) and not name.endswith(_UNWANTED)


def missing_checkpoint(*, remote_code: bool) -> Missing:
    """What to say of a checkpoint that is not in the cache, with its Python files or without."""
    return Missing([*(f"*{ending}" for ending in _TEXTS), "*.safetensors", *([f"*{_CODE}"] if remote_code else [])])


def cached_checkpoint(wanted: HubName, cache: Path | None, *, remote_code: bool) -> CheckpointFiles | None:
    """The checkpoint in the cache, or None where it is not there completely."""
    snapshot = cached_snapshot(wanted, cache, "*.safetensors")
    if snapshot is None:
        return None
    try:
        config = read_config(snapshot)
        check_weight_files(snapshot)
    except ModelLoadError:
        return None
    if remote_code and config.values.get("auto_map") and not any(snapshot.glob(f"*{_CODE}")):
        return None
    return CheckpointFiles(snapshot.name, snapshot)
