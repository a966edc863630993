"""From a name to a checkpoint in Hugging Face's form."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.checkpoint import read_config
from fastinfer.models.checkpoint_hub import checkpoint_from_hub
from fastinfer.models.embedded_chat import EMBEDDED_CHAT
from fastinfer.models.filenames import is_gguf
from fastinfer.models.hub_name import HubName
from fastinfer.models.local import existing_path
from fastinfer.models.model import Source
from fastinfer.models.safetensors import check_weight_files

__all__ = ["Checkpoint", "locate_checkpoint", "resolve_checkpoint"]

_PACKAGED: Final = ("embedded", EMBEDDED_CHAT)
_FORM: Final = "Name a folder with config.json and .safetensors files, or org/repo on the Hugging Face hub"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all on this machine.

    Attributes:
        name: as resolved: the folder's absolute path, or ``"org/repo@COMMIT"``.
        folder: where its files lie.
        revision: the commit of the hub's repository, or None for a checkpoint that is not from the hub.
        source: ``"path"`` or ``"hub"``.
    """

    name: str
    folder: Path
    revision: str | None
    source: Source


def resolve_checkpoint(
    name: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None, remote_code: bool = False
) -> Checkpoint:
    """Find a checkpoint by its name, fetch it where needed, and check that its files are there.

    A name is, and in this order it is tried:

    - The path of a folder with config.json and safetensors files; ``~`` is expanded.
    - ``org/repo`` on the Hugging Face hub, with an optional ``@revision`` (branch, tag or commit, of which
      seven digits do).

    Files from the hub are kept in its cache, in the same way and under the same variables as with
    :func:`fastinfer.models.resolve_gguf`. What is in the files is checked by
    :func:`fastinfer.models.describe_checkpoint`.

    Args:
        name: the model's name.
        cache_dir: folder of the cache, in place of the one that the environment names.
        remote_code: fetch the Python files of a repository too. They are not run here.

    Raises:
        ModelNotFoundError: there is no such folder, repository or revision, the hub refuses it, or it can neither be
            reached nor is the checkpoint in the cache; or the disk has no room for it.
        ModelLoadError: the model is in GGUF format, its config.json or a file of its weights is missing, its weights
            are in PyTorch's format only, or a file did not arrive as it is on the hub.
    """
    found = locate_checkpoint(name)
    if isinstance(found, Checkpoint):
        return found
    files = checkpoint_from_hub(found, cache_dir, remote_code=remote_code)
    return Checkpoint(f"{found.repo}@{files.commit}", files.folder, files.commit, "hub")


def locate_checkpoint(name: str | os.PathLike[str]) -> Checkpoint | HubName:
    """Find a checkpoint by its name on this machine, or say which one of the hub's it is; nothing is fetched.

    Args:
        name: the model's name, as for :func:`resolve_checkpoint`.

    Raises:
        ModelNotFoundError: there is no such folder, and it is no name of the hub's.
        ModelLoadError: the model is in GGUF format, or is not complete.
    """
    text = os.fspath(name)
    if not text:
        raise ModelNotFoundError("The model's name is empty.", hint=f"{_FORM}.")
    path = None if text in _PACKAGED else existing_path(text)
    on_hub = HubName.parse(text)
    quantised = on_hub is not None and on_hub.quant is not None
    if text in _PACKAGED or is_gguf(text) or (path is None and quantised):
        raise ModelLoadError(
            f"Model {text!r}: in GGUF format; TurboMind reads checkpoints of safetensors files.",
            hint=f"{_FORM}; or use preset 'embedded', which runs GGUF.",
        )
    if path is not None:
        return _local(path)
    if on_hub is None:
        raise ModelNotFoundError(f"Model {text!r}: there is no such folder.", hint=f"Check the path. {_FORM}.")
    return on_hub


def _local(path: Path) -> Checkpoint:
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise ModelLoadError(
            f"{path}: cannot be read: {error.strerror or error}.", hint="Check the folder's permissions."
        ) from error
    if not is_folder:
        raise ModelLoadError(f"{path}: not a folder.", hint=f"{_FORM}.")
    read_config(path)
    check_weight_files(path)
    return Checkpoint(str(path), path, None, "path")
