"""The Hugging Face hub and its cache: which of the two answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from fastinfer.errors import FastInferError
from fastinfer.models.hub_name import HubEntry, HubName, Listing, Missing
from fastinfer.models.hub_refusals import (
    cache_folder,
    definite_refusal,
    is_offline,
    not_cached,
    not_delivered,
    unreachable,
)
from fastinfer.models.hub_requests import Patience

__all__ = ["InCommit", "cached_snapshot", "hub_or_cache", "repository_folder"]

_log = logging.getLogger(__name__)
_SHORT_COMMIT: Final = re.compile(r"[0-9a-f]{7,39}")  # the beginning of one


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
) -> _Files:
    """A model's files: fetched, or from the cache where the hub cannot be reached.

    Where the hub answers that it has too much to do, and neither the cache nor ``known`` has the files, it is asked
    again after a while.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        fetch: fetches what is wanted of the files that the hub has.
        cached: finds it in the cache, or gives None where it is not there completely.
        missing: what to say where it is not.
        known: what stands in for it then, or None where nothing does.

    Raises:
        ModelNotFoundError: no such model, the hub refuses it, or it is neither to be reached nor in the cache.
        FastInferError: what the functions raise.
    """
    patience = Patience(wanted, connections=False)
    while True:
        # huggingface_hub passes on the errors of its HTTP library, which differs between its versions.
        try:
            listing = _list_files(wanted)
            break
        except Exception as error:
            if (refusal := definite_refusal(wanted, cache, error)) is not None:
                raise refusal from error
            found = cached()
            if found is not None:
                if not is_offline(error):
                    _log.warning("%s: %s; using the cached revision %s.", wanted, unreachable(error), found.commit)
                return found
            if (stand_in := known()) is not None:
                return stand_in
            if not patience.after(error):
                raise not_cached(wanted, cache, missing(), error) from error
    try:
        return fetch(listing)
    except FastInferError:
        raise
    except Exception as error:
        raise (definite_refusal(wanted, cache, error) or not_delivered(wanted, cache, error)) from error


def repository_folder(wanted: HubName, cache: Path | None) -> Path:
    """Where a repository lies in the cache, if it does.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
    """
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder(cache) / repo_folder_name(repo_id=wanted.repo, repo_type="model")


def cached_snapshot(wanted: HubName, cache: Path | None, pattern: str) -> Path | None:
    """The folder of the revision in the cache, or None.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        pattern: names of the files that matter.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    revision = wanted.revision
    if revision and _SHORT_COMMIT.fullmatch(revision):
        commits = [folder.name for folder in (repository_folder(wanted, cache) / "snapshots").glob(f"{revision}*")]
        revision = commits[0] if len(commits) == 1 else revision
    try:
        return Path(
            snapshot_download(
                wanted.repo,
                revision=revision,
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


def _list_files(wanted: HubName) -> Listing:
    """Ask the hub for the files of a repository."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionNotFoundError

    timeout = constants.HF_HUB_ETAG_TIMEOUT
    try:
        info = HfApi().model_info(wanted.repo, revision=wanted.revision, timeout=timeout, files_metadata=True)
    except RevisionNotFoundError:
        commit = _full_commit(wanted)
        if commit is None:
            raise
        info = HfApi().model_info(wanted.repo, revision=commit, timeout=timeout, files_metadata=True)
    files = {
        file.rfilename: HubEntry(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in info.siblings or ()
    }
    return Listing(info.sha, files)


def _full_commit(wanted: HubName) -> str | None:
    """The one commit of the main branch that begins with the revision; the hub itself takes whole commits only."""
    from huggingface_hub import HfApi

    revision = wanted.revision or ""
    if not _SHORT_COMMIT.fullmatch(revision):
        return None
    commits = [commit.commit_id for commit in HfApi().list_repo_commits(wanted.repo)]
    found = [commit for commit in commits if commit.startswith(revision)]
    return found[0] if len(found) == 1 else None
