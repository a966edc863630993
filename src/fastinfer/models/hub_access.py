"""The Hugging Face hub and its cache: which of the two answers, and what to say when neither does."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

from fastinfer.errors import FastInferError, ModelNotFoundError

__all__ = ["HubName", "InCommit", "Listing", "Missing", "cached_snapshot", "hub_or_cache", "list_files"]

_log = logging.getLogger(__name__)
_NAME: Final = re.compile(
    r"(?P<repo>(?!\.{1,2}/)[\w.-]+/[\w.-]+)(?::(?P<quant>[\w.-]+))?(?:@(?P<revision>[\w.+-][\w./+-]*))?", re.ASCII
)
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

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """The name that a text is, or None where it is none."""
        match = _NAME.fullmatch(text)
        if match is None or ".." in (match["revision"] or ""):
            return None
        return cls(match["repo"], match["quant"], match["revision"])

    def __str__(self) -> str:
        quant = f":{self.quant}" if self.quant else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{quant}{revision}"


class Listing(NamedTuple):
    """The files of a repository.

    Attributes:
        commit: whose files they are; None where the hub does not say.
        sizes: the length of each in bytes, by its path in the repository; None where it was not asked for, or the hub
            does not say.
    """

    commit: str | None
    sizes: dict[str, int | None]


class Missing(NamedTuple):
    """What to say of a model that is not in the cache.

    Attributes:
        patterns: the files to fetch.
        there: the models of this revision that the cache has.
    """

    patterns: Sequence[str]
    there: Sequence[str] = ()


class InCommit(Protocol):
    """Files of one commit."""

    @property
    def commit(self) -> str:
        """The commit."""
        ...


_Files = TypeVar("_Files", bound=InCommit)


def hub_or_cache(
    wanted: HubName,
    cache: Path | None,
    *,
    fetch: Callable[[Listing], _Files],
    cached: Callable[[], _Files | None],
    missing: Callable[[], Missing],
    known: Callable[[], _Files | None] = lambda: None,
    sizes: bool = False,
) -> _Files:
    """A model's files: fetched, or from the cache where the hub cannot be reached.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        fetch: fetches what is wanted of the files that the hub has.
        cached: finds it in the cache, or gives None where it is not there completely.
        missing: what to say where it is not.
        known: what stands in for it then, or None where nothing does.
        sizes: ask for the files' lengths too.

    Raises:
        ModelNotFoundError: no such model, the hub refuses it, or it is neither to be reached nor in the cache.
        FastInferError: what the functions raise.
    """
    # huggingface_hub passes on the errors of its HTTP library, which differs between its versions.
    try:
        listing = list_files(wanted, sizes=sizes)
    except Exception as error:
        if (refusal := _refusal(wanted, cache, error)) is not None:
            raise refusal from error
        found = cached()
        if found is None:
            if (stand_in := known()) is not None:
                return stand_in
            raise _not_cached(wanted, cache, missing(), error) from error
        if not _is_offline(error):
            _log.warning("%s: %s; using the cached revision %s.", wanted, _unreachable(error), found.commit)
        return found
    try:
        return fetch(listing)
    except FastInferError:
        raise
    except Exception as error:
        raise (_refusal(wanted, cache, error) or _not_delivered(wanted, cache, error)) from error


def list_files(wanted: HubName, *, sizes: bool = False) -> Listing:
    """Ask the hub for the files of a repository.

    Args:
        wanted: the model's name.
        sizes: ask for their lengths too.

    Raises:
        Exception: what huggingface_hub raises where the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=timeout, files_metadata=sizes)
    return Listing(info.sha, {file.rfilename: file.size for file in info.siblings or ()})


def cached_snapshot(wanted: HubName, cache: Path | None, pattern: str) -> Path | None:
    """The folder of the revision in the cache, or None.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        pattern: names of the files that matter.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                wanted.repo,
                revision=wanted.revision,
                cache_dir=cache,
                allow_patterns=pattern,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError as error:
        # Newer versions refuse a folder that lacks any of the repository's files, but say where it is.
        incomplete: str | None = getattr(error, "snapshot_path", None)
        return None if incomplete is None else Path(incomplete)
    except HFValidationError:
        return None


def _refusal(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError | None:
    """The error for a definite answer, or None where the hub could not be asked."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    error = _original(error)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, HFValidationError):
        return ModelNotFoundError(f"Model {wanted}: not a name that the hub allows.", hint="It is org/repo.")
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


def _not_cached(wanted: HubName, cache: Path | None, missing: Missing, error: Exception) -> ModelNotFoundError:
    there = f"; of this revision it has {', '.join(missing.there)}" if missing.there else ""
    patterns = " ".join(f'"{pattern}"' for pattern in missing.patterns)
    revision = f" --revision {wanted.revision}" if wanted.revision else ""
    remedy = "Unset HF_HUB_OFFLINE" if _is_offline(error) else "Check the network, HF_ENDPOINT and the proxy settings"
    return ModelNotFoundError(
        f"Model {wanted}: {_unreachable(error)}, and the model is not in the cache {_cache_folder(cache)}{there}.",
        hint=f"{remedy}, or fetch it where there is a network: "
        f"`hf download {wanted.repo}{revision} --include {patterns}`, and copy the cache.",
    )


def _not_delivered(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"Model {wanted}: could not be fetched from the hub ({_in_short(_original(error))}).",
        hint=f"Try again; a download goes on from what is in {_cache_folder(cache)}.",
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
