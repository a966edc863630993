"""From a model's name to its files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelNotFoundError
from fastinfer.models.embedded_chat import EMBEDDED_CHAT, embedded_chat
from fastinfer.models.filenames import is_gguf
from fastinfer.models.hub import model_from_hub
from fastinfer.models.hub_name import HubName
from fastinfer.models.local import existing_path, model_at, no_such_path
from fastinfer.models.model import GgufModel, checked_model

__all__ = ["locate_gguf", "resolve_gguf"]

_EMBEDDED: Final = "embedded"
_FOLDER: Final = Path(__file__).with_name("embedded")


def resolve_gguf(name: str | os.PathLike[str], *, cache_dir: str | os.PathLike[str] | None = None) -> GgufModel:
    """Find a model by its name, fetch it where needed, and check the headers of its files.

    A name is, and in this order it is tried:

    - ``embedded``: the classification model in the package; ``embedded-chat``: the chat model in the extra of that
      name, which is copied into fastinfer's cache (FASTINFER_CACHE, else the user's cache folder). Folders of these
      names are ``./embedded`` and ``./embedded-chat``.
    - The path of a .gguf file, of any part of a split model, or of a folder with one model in it; ``~`` is expanded.
      A projector in the same folder, a file with ``mmproj`` in its name, goes with the model. Of several it is the
      one whose name has the longest beginning in common with the model's, then F16, BF16, Q8_0, F32 and others in
      this order, then the first by name.
    - ``org/repo`` or ``org/repo:QUANT`` on the Hugging Face hub, each with an optional ``@revision`` (branch, tag or
      commit, of which seven digits do). Without QUANT it is Q4_K_M, else Q8_0, else the first file by name, as with
      llama.cpp's ``-hf``. QUANT is compared without regard to case, and Q5_K_XL finds UD-Q5_K_XL too. A projector in
      the model's folder, or one above it, is fetched as well, chosen as above.

    Files from the hub are kept in its cache. A download that broke off goes on where it was, also in another process,
    and a file is used only if its SHA-256 is what the hub says. A hub that limits the requests is asked again after
    the time that it names. Where the hub cannot be reached (or HF_HUB_OFFLINE is set), the cached files of the
    revision are used. HF_HOME, HF_HUB_CACHE, HF_ENDPOINT and HF_TOKEN have their usual meaning; they are read when
    huggingface_hub is first imported.

    Args:
        name: the model's name.
        cache_dir: folder of the cache, in place of the one that the environment names.

    Raises:
        ModelNotFoundError: there is no such model, revision or quantisation, the hub refuses it, or it can neither be
            reached nor is the model in the cache; the disk has no room for it; or the extra embedded-chat is not
            installed.
        ModelLoadError: a file is damaged, incomplete, of the wrong kind, or cannot be read.
    """
    found = locate_gguf(name)
    return model_from_hub(found, cache_dir) if isinstance(found, HubName) else found


def locate_gguf(name: str | os.PathLike[str]) -> GgufModel | HubName:
    """Find a model by its name on this machine, or say which one of the hub's it is; nothing is fetched.

    Args:
        name: the model's name, as for :func:`resolve_gguf`.

    Raises:
        ModelNotFoundError: there is no such model, or the extra embedded-chat is not installed.
        ModelLoadError: a file is damaged, incomplete, of the wrong kind, or cannot be read.
    """
    text = os.fspath(name)
    if text == _EMBEDDED:
        return _embedded()
    if text == EMBEDDED_CHAT:
        return embedded_chat()
    if not text:
        raise ModelNotFoundError("The model's name is empty.", hint="Name a .gguf file, a folder, or org/repo.")
    if packaged := re.match(rf"({_EMBEDDED}|{EMBEDDED_CHAT})[:@]", text):
        raise ModelNotFoundError(
            f"Model {text!r}: the embedded model has no quantisations and revisions.",
            hint=f"Its name is {packaged[1]!r}.",
        )
    path = existing_path(text)
    if path is not None:
        return model_at(path)
    on_hub = HubName.parse(text)
    if on_hub is None or is_gguf(on_hub.repo) or is_gguf(on_hub.quant or ""):
        raise no_such_path(text)
    return on_hub


def _embedded() -> GgufModel:
    model, projector = _FOLDER / "embedded.gguf", _FOLDER / "embedded-mmproj.gguf"
    return checked_model(_EMBEDDED, [model], projector, revision=None, source="package")
