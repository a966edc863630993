"""Models on the Hugging Face hub and in its cache."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from fastinfer.errors import ModelNotFoundError
from fastinfer.models.filenames import choose_model, choose_projector, is_gguf, models, parts, quantisation
from fastinfer.models.model import GgufModel, checked_model

__all__ = ["HubName", "model_from_hub"]

_log = logging.getLogger(__name__)
_TRY_AGAIN: Final = frozenset({408, 429})
_CANNOT_STORE: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS})
_HOW_TO_GET_ACCESS: Final = (
    "Check the name. If the repository is gated or private: accept its terms on its page, make an access token, and "
    "set HF_TOKEN to it."
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A model's name on the hub.

    Attributes:
        repo: ``"org/repo"``.
        quant: the quantisation, or None for the preferred one.
        revision: branch, tag or commit, or None for the main branch.
    """

    repo: str
    quant: str | None
    revision: str | None

    def __str__(self) -> str:
        quant = f":{self.quant}" if self.quant else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{quant}{revision}"


class _Listing(NamedTuple):
    commit: str | None
    names: list[str]


class _Found(NamedTuple):
    commit: str
    parts: list[Path]
    projector: Path | None


def model_from_hub(wanted: HubName, cache_dir: str | os.PathLike[str] | None = None) -> GgufModel:
    """Fetch a model into the cache, or find it there where the hub cannot be reached.

    Args:
        wanted: its name.
        cache_dir: folder of the cache; None for huggingface_hub's own.

    Raises:
        ModelNotFoundError: no such model, the hub refuses it, or it is neither to be reached nor in the cache.
        ModelLoadError: a file is damaged.
    """
    cache = None if cache_dir is None else Path(cache_dir).expanduser()
    # huggingface_hub passes on the errors of its HTTP library, which differs between its versions.
    try:
        listing = _list(wanted)
    except Exception as error:
        if (refusal := _refusal(wanted, cache, error)) is not None:
            raise refusal from error
        cached = _cached(wanted, cache)
        if cached is None:
            raise _not_cached(wanted, cache, error) from error
        found = cached
        if not _is_offline(error):
            _log.warning("%s: %s; using the cached revision %s.", wanted, _unreachable(error), found.commit)
    else:
        try:
            found = _fetch(wanted, listing, cache)
        except ModelNotFoundError:
            raise
        except Exception as error:
            raise (_refusal(wanted, cache, error) or _not_delivered(wanted, cache, error)) from error
    label = quantisation(found.parts[0].name)
    name = str(HubName(wanted.repo, label or wanted.quant, found.commit))
    return checked_model(name, found.parts, found.projector, revision=found.commit, source="hub")


def _list(wanted: HubName) -> _Listing:
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    return _Listing(info.sha, [file.rfilename for file in info.siblings or () if is_gguf(file.rfilename)])


def _fetch(wanted: HubName, listing: _Listing, cache: Path | None) -> _Found:
    from huggingface_hub import hf_hub_download

    names = listing.names
    model = choose_model(names, wanted.quant)
    if model is None:
        raise _no_such_file(wanted, names)
    files = parts(model)
    if missing := sorted(set(files).difference(names)):
        raise ModelNotFoundError(f"Model {wanted}: the repository lacks part {missing[0]!r} of it.")
    # This one is fetched by the revision's name, so that the cache knows the name when there is no network.
    first = Path(hf_hub_download(wanted.repo, model, revision=wanted.revision, cache_dir=cache))
    commit = first.parents[model.count("/")].name
    if commit not in (listing.commit, wanted.revision):
        # The branch has moved since its files were listed.
        wanted = replace(wanted, revision=commit)
        return _fetch(wanted, _list(wanted), cache)

    def download(name: str) -> Path:
        return Path(hf_hub_download(wanted.repo, name, revision=commit, cache_dir=cache))

    projector = choose_projector(model, names)
    return _Found(commit, [first, *map(download, files[1:])], None if projector is None else download(projector))


def _cached(wanted: HubName, cache: Path | None) -> _Found | None:
    """The model in the cache, or None where it is not there completely."""
    snapshot = _snapshot(wanted, cache)
    if snapshot is None:
        return None
    names = _cached_names(snapshot)
    model = choose_model(names, wanted.quant)
    if model is None:
        return None
    projector = choose_projector(model, names)
    return _Found(
        snapshot.name, [snapshot / name for name in parts(model)], None if projector is None else snapshot / projector
    )


def _snapshot(wanted: HubName, cache: Path | None) -> Path | None:
    """The folder of the revision in the cache, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                wanted.repo,
                revision=wanted.revision,
                cache_dir=cache,
                allow_patterns="*.gguf",
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError as error:
        # Newer versions refuse a folder that lacks any of the repository's files, but say where it is.
        incomplete: str | None = getattr(error, "snapshot_path", None)
        return None if incomplete is None else Path(incomplete)


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


def _refusal(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError | None:
    """The error for a definite answer, or None where the hub could not be asked."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    error = _original(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HFValidationError):
        return ModelNotFoundError(f"Model {wanted}: not a name that the hub allows.", hint="It is org/repo:QUANT.")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFoundError(
            f"Model {wanted}: the repository has no revision {wanted.revision or 'main'!r}.",
            hint="Name a branch, a tag or a commit of it.",
        )
    if isinstance(error, GatedRepoError):
        return ModelNotFoundError(f"Model {wanted}: the repository is gated.", hint=_HOW_TO_GET_ACCESS)
    if status in (401, 403):
        return ModelNotFoundError(
            f"Model {wanted}: the hub refuses access (HTTP {status}); the repository is private or gated, or there is "
            "none of that name.",
            hint=_HOW_TO_GET_ACCESS,
        )
    if status == 404:
        return ModelNotFoundError(
            f"Model {wanted}: there is no such repository or file on the hub.", hint=_HOW_TO_GET_ACCESS
        )
    if status is not None and 400 <= status < 500 and status not in _TRY_AGAIN:
        return ModelNotFoundError(f"Model {wanted}: the hub refuses the request ({_in_short(error)}).")
    if isinstance(error, OSError) and error.errno in _CANNOT_STORE:
        return ModelNotFoundError(
            f"Model {wanted}: cannot be stored in {_cache_folder(cache)}: {error.strerror or error}.",
            hint="Make room there, or name another folder with HF_HOME or cache_dir.",
        )
    return None


def _not_cached(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError:
    snapshot = _snapshot(wanted, cache)
    names = [] if snapshot is None else models(_cached_names(snapshot))
    there = f"; of this revision it has {', '.join(names)}" if names else ""
    pattern = f'"*{wanted.quant}*" "*mmproj*"' if wanted.quant else '"*.gguf"'
    revision = f" --revision {wanted.revision}" if wanted.revision else ""
    remedy = "Unset HF_HUB_OFFLINE" if _is_offline(error) else "Check the network, HF_ENDPOINT and the proxy settings"
    return ModelNotFoundError(
        f"Model {wanted}: {_unreachable(error)}, and the model is not in the cache {_cache_folder(cache)}{there}.",
        hint=f"{remedy}, or fetch it where there is a network: "
        f"`hf download {wanted.repo}{revision} --include {pattern}`, and copy the cache.",
    )


def _not_delivered(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"Model {wanted}: could not be fetched from the hub ({_in_short(_original(error))}).",
        hint=f"Try again; what has arrived is kept in {_cache_folder(cache)}.",
    )


def _original(error: Exception) -> Exception:
    """What went wrong, where huggingface_hub only says that a file is not in its cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    return cause if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, Exception) else error


def _is_offline(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def _unreachable(error: Exception) -> str:
    if _is_offline(error):
        return "offline (HF_HUB_OFFLINE is set)"
    return f"offline, or the hub does not answer properly ({_in_short(error)})"


def _in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _cache_folder(cache: Path | None) -> Path:
    from huggingface_hub import constants

    return cache or Path(constants.HF_HUB_CACHE)
