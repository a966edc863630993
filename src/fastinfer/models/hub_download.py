"""Files of a repository fetched into the hub's cache: gone on with where they broke off, and checked before use.

A large file is fetched into a file beside its place in the cache, with requests for ranges, and moved there once its
SHA-256 is what the hub says. So what is in the cache is complete and sound, and an interrupted download, also one of a
process that was killed, goes on where it was. huggingface_hub checks lengths only, and its newer versions begin each
download from the start; it fetches the small files, and those that are too large for plain HTTP.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Iterable
from importlib import import_module
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import ModelLoadError, ModelNotFoundError
from fastinfer.models.hub_access import repository_folder
from fastinfer.models.hub_name import HubEntry, HubName, Listing
from fastinfer.models.hub_progress import progress
from fastinfer.models.hub_refusals import cache_folder, cannot_store, no_room, size_text
from fastinfer.models.hub_requests import Patience, bytes_from, patiently

__all__ = ["HubDownload"]

_log = logging.getLogger(__name__)
_LARGEST_BY_HTTP: Final = 50_000_000_000  # bytes; larger files are not to be had by plain HTTP, says huggingface_hub
_CHUNK: Final = 1 << 20  # bytes checked at once
_LONG_CHECK: Final = 1 << 30  # bytes; some seconds
_ETAG: Final = re.compile(r"\w[\w.+=-]*", re.ASCII)
_PARTIAL: Final = ".fastinfer-partial"


class HubDownload:
    """Fetches files of one commit of a repository into the hub's cache.

    Args:
        wanted: the model's name.
        listing: the files of its repository.
        cache: folder of the cache; None for huggingface_hub's own.

    Attributes:
        commit: whose files are fetched.

    Raises:
        Exception: what huggingface_hub and its HTTP library raise where the hub does not say which commit it is.
    """

    def __init__(self, wanted: HubName, listing: Listing, cache: Path | None) -> None:
        self._wanted = wanted
        self._files = listing.files
        self._cache = cache
        self._folder = repository_folder(wanted, cache)
        self.commit = listing.commit or self._commit_of(next(iter(listing.files)))

    def fetch(self, names: Iterable[str]) -> list[Path]:
        """Where the files lie in the cache, after fetching those that are not there.

        Args:
            names: their paths in the repository.

        Raises:
            ModelNotFoundError: they cannot be stored, or the hub gives them no name to store them by.
            ModelLoadError: what arrived is not what the hub says it has. It is not kept.
            Exception: what huggingface_hub and its HTTP library raise where they cannot be fetched.
        """
        names = list(names)
        lacking = [name for name in names if not self._place(name).exists()]
        self._check_room(lacking)
        for name in lacking:
            entry = self._files[name]
            if entry.sha256 and entry.size is not None and entry.size <= _LARGEST_BY_HTTP:
                self._fetch_blob(name, entry.size)
                self._link(name)
            else:
                place = self._link(name)
                self._check(name, place, [place, place.resolve()])
        return [self._place(name) for name in names]

    def remember_revision(self) -> None:
        """Have the cache know the revision by its name, if it can be written; to be called once all files are there."""
        revision = self._wanted.revision or "main"
        if self.commit.startswith(revision):
            return
        place = self._folder / "refs" / revision
        try:
            if not place.exists() or place.read_text("utf-8") != self.commit:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(self.commit, "utf-8")
        except OSError as error:
            _log.warning("%s: offline it will not be found in the cache: %s.", self._wanted, error)

    def _place(self, name: str) -> Path:
        return self._folder / "snapshots" / self.commit / name

    def _commit_of(self, name: str) -> str:
        return self._metadata(name, self._wanted.revision).commit_hash or ""

    def _metadata(self, name: str, revision: str | None) -> Any:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self._wanted.repo, name, revision=revision)
        return patiently(self._wanted, lambda: get_hf_file_metadata(url))

    def _link(self, name: str) -> Path:
        """Have huggingface_hub put a file into its place, fetching it if it is not in the cache at all."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self._wanted.repo, name, revision=self.commit, cache_dir=self._cache))

    def _check_room(self, names: list[str]) -> None:
        """Refuse what the disk has no room for, as far as the hub says how long the files are."""
        needed = sum(self._size_left(self._files[name]) for name in names)
        folder = cache_folder(self._cache)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        usage = shutil.disk_usage(there)
        if usage.total and needed > usage.free:  # some file systems of the network say that they have no bytes at all
            raise no_room(self._wanted, self._cache, needed, usage.free)

    def _size_left(self, entry: HubEntry) -> int:
        size = entry.size or 0
        if entry.sha256 is None:
            return size
        blob = self._folder / "blobs" / entry.sha256
        if blob.exists():  # another commit has it too
            return 0
        partial = _partial_of(blob)
        return size - (partial.stat().st_size if partial.exists() else 0)

    def _fetch_blob(self, name: str, size: int) -> None:
        """Have the content of a file in the cache, under the name that huggingface_hub looks for."""
        utilities: Any = import_module("huggingface_hub.utils")
        etag = self._metadata(name, self.commit).etag or ""
        if not _ETAG.fullmatch(etag):
            raise ModelNotFoundError(
                f"Model {self._wanted}: the hub gives {name!r} the ETag {etag!r}, which cannot be the name of a file.",
                hint="Check HF_ENDPOINT.",
            )
        blob = self._folder / "blobs" / etag
        partial = _partial_of(blob)
        # The lock that huggingface_hub takes, too.
        lock = cache_folder(self._cache) / ".locks" / self._folder.name / f"{etag}.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with utilities.WeakFileLock(lock):
            if blob.exists():
                return
            _log.info("%s: fetching %s, %s, into %s.", self._wanted, name, size_text(size), cache_folder(self._cache))
            self._append(name, partial, size)
            self._check(name, partial, [partial])
            partial.replace(blob)
            _log.info("%s: %s is complete, and its SHA-256 is right.", self._wanted, name)

    def _append(self, name: str, partial: Path, size: int) -> None:
        """Fetch what is still lacking of a file."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._wanted.repo, name, revision=self.commit)
        patience = Patience(f"{self._wanted}: {name}")
        partial.touch()
        # Written at a place of its own, and not appended, by each of several processes where locks are not honoured.
        with partial.open("r+b", buffering=0) as file, progress(name, size, begin=file.seek(0, SEEK_END)) as bar:
            while (begin := file.tell()) < size:
                try:
                    for piece in bytes_from(url, begin, size):
                        self._write(file, piece[: size - file.tell()], size)
                        bar.update(len(piece))
                        patience.something_arrived()
                    if file.tell() == begin:
                        raise ConnectionError(f"{name} ends at byte {begin} of {size}")
                except Exception as error:  # huggingface_hub passes on those of its HTTP library
                    if not patience.after(error):
                        raise
                    if file.tell() > begin:
                        _log.info("%s: going on with %s at %s.", self._wanted, name, size_text(file.tell()))

    def _write(self, file: FileIO, piece: bytes, size: int) -> None:
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[file.write(rest) :]
            except OSError as error:
                refusal = cannot_store(self._wanted, self._cache, error, size - file.tell())
                if refusal is None:
                    raise
                raise refusal from error

    def _check(self, name: str, path: Path, traces: list[Path]) -> None:
        """Refuse and remove a file whose content is not what the hub says."""
        entry = self._files[name]
        if entry.sha256:
            what, expected = "SHA-256", entry.sha256
            digest = hashlib.sha256(usedforsecurity=False)
        elif entry.blob:
            what, expected = "Git blob", entry.blob
            digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        else:
            _log.debug("%s: the hub does not say what %s contains.", self._wanted, name)
            return
        size = path.stat().st_size
        with path.open("rb") as file, progress(f"{name}: checking", size, shown=size >= _LONG_CHECK) as bar:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                bar.update(len(chunk))
        if digest.hexdigest() != expected:
            for trace in traces:
                trace.unlink(missing_ok=True)
            raise ModelLoadError(
                f"Model {self._wanted}: {name!r} did not arrive as it is on the hub: its {what} is "
                f"{digest.hexdigest()}, expected was {expected}.",
                hint="It was removed, so that it is fetched anew the next time. If it comes damaged again, look for a "
                "proxy or a mirror (HF_ENDPOINT) that changes it.",
            )


def _partial_of(blob: Path) -> Path:
    return blob.with_name(blob.name + _PARTIAL)
