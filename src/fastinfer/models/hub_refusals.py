"""What to say where the hub refuses a model, does not answer, or its files cannot be stored."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from fastinfer.errors import ModelNotFoundError
from fastinfer.models.hub_name import HubName, Missing

__all__ = [
    "cache_folder",
    "cannot_store",
    "definite_refusal",
    "is_offline",
    "no_room",
    "not_cached",
    "not_delivered",
    "size_text",
    "status_of",
    "unreachable",
]

_TRY_AGAIN: Final = frozenset({408, 429})
_TOO_MANY: Final = 429
_CANNOT_STORE: Final = frozenset({errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS})
_HOW_TO_GET_ACCESS: Final = (
    "Check the name. If the repository is gated or private: accept its terms on its page, make an access token, and "
    "set HF_TOKEN to it."
)
_OTHER_FOLDER: Final = "Make room there, or name another folder with HF_HOME or cache_dir."
_SLOW_DOWN: Final = "Wait some minutes and try again; with an access token in HF_TOKEN the hub allows more requests."


def definite_refusal(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError | None:
    """The error for a definite answer, or None where the hub could not be asked.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        error: what huggingface_hub, or the writing of a file, raised.
    """
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    error = _original(error)
    status = status_of(error)
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
    if isinstance(error, OSError):
        return cannot_store(wanted, cache, error)
    return None


def cannot_store(
    wanted: HubName, cache: Path | None, error: OSError, needed: int | None = None
) -> ModelNotFoundError | None:
    """The error for a file that cannot be written, or None where it is another that the operating system reported.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        error: what the writing raised.
        needed: bytes that were still to be written; None where that is not known.
    """
    if error.errno not in _CANNOT_STORE:
        return None
    rest = "" if needed is None else f"; {size_text(needed)} are still to be fetched"
    return ModelNotFoundError(
        f"Model {wanted}: cannot be stored in {cache_folder(cache)}: {error.strerror or error}{rest}.",
        hint=_OTHER_FOLDER,
    )


def no_room(wanted: HubName, cache: Path | None, needed: int, free: int) -> ModelNotFoundError:
    """The error for a model that the disk has no room for.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        needed: bytes that would have to be written.
        free: bytes that can be.
    """
    return ModelNotFoundError(
        f"Model {wanted}: {size_text(needed)} are to be fetched into {cache_folder(cache)}, where {size_text(free)} "
        "are free.",
        hint=_OTHER_FOLDER,
    )


def not_cached(wanted: HubName, cache: Path | None, missing: Missing, error: Exception) -> ModelNotFoundError:
    """The error for a model that is not in the cache while the hub does not answer.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        missing: what to say of it.
        error: what huggingface_hub raised.
    """
    there = f"; of this revision it has {', '.join(missing.there)}" if missing.there else ""
    patterns = " ".join(f'"{pattern}"' for pattern in missing.patterns)
    revision = f" --revision {wanted.revision}" if wanted.revision else ""
    remedy = "Unset HF_HUB_OFFLINE" if is_offline(error) else "Check the network, HF_ENDPOINT and the proxy settings"
    fetch = (
        f"{remedy}, or fetch it where there is a network: "
        f"`hf download {wanted.repo}{revision} --include {patterns}`, and copy the cache."
    )
    return ModelNotFoundError(
        f"Model {wanted}: {unreachable(error)}, and the model is not in the cache {cache_folder(cache)}{there}.",
        hint=_SLOW_DOWN if status_of(error) == _TOO_MANY else fetch,
    )


def not_delivered(wanted: HubName, cache: Path | None, error: Exception) -> ModelNotFoundError:
    """The error for a model that the hub has and does not deliver.

    Args:
        wanted: the model's name.
        cache: folder of the cache; None for huggingface_hub's own.
        error: what huggingface_hub raised.
    """
    error = _original(error)
    again = f"Try again; a download goes on from what is in {cache_folder(cache)}."
    return ModelNotFoundError(
        f"Model {wanted}: could not be fetched from the hub ({_in_short(error)}).",
        hint=_SLOW_DOWN if status_of(error) == _TOO_MANY else again,
    )


def status_of(error: Exception) -> int | None:
    """The status of the hub's answer, or None where there was no answer."""
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def is_offline(error: Exception) -> bool:
    """Whether the hub was not asked because HF_HUB_OFFLINE is set."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled)


def unreachable(error: Exception) -> str:
    """Why the hub does not answer, for the middle of a sentence."""
    if is_offline(error):
        return "offline (HF_HUB_OFFLINE is set)"
    if status_of(error) == _TOO_MANY:
        return "the hub limits the requests (HTTP 429)"
    return f"offline, or the hub does not answer properly ({_in_short(error)})"


def cache_folder(cache: Path | None) -> Path:
    """The folder of the cache; huggingface_hub's own for None."""
    from huggingface_hub import constants

    return cache or Path(constants.HF_HUB_CACHE)


def size_text(size: int) -> str:
    """Bytes as progress bars show them, for example ``"3.46GB"``."""
    from tqdm import tqdm

    return f"{tqdm.format_sizeof(size)}B"


def _original(error: Exception) -> Exception:
    """What went wrong, where huggingface_hub only says that a file is not in its cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__
    return cause if isinstance(error, LocalEntryNotFoundError) and isinstance(cause, Exception) else error


def _in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
