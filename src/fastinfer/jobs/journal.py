"""What a job knows already, in one file that survives the end of the process at any moment.

The file is an SQLite database in WAL mode, beside the output. Whoever has it open has a lock on it, which the operating
system takes back with the process. Commits are atomic: after a crash of the process there is all of a commit or none.
A power failure may cost the last commits, and nothing before them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import orjson

from fastinfer.errors import FastInferError
from fastinfer.fingerprint import canonical
from fastinfer.jobs.configuration import Configuration
from fastinfer.jobs.work import FileState, Outcome

__all__ = ["Journal", "Stored"]

#: "fiJo", in the header of the file: a database of ours.
_APPLICATION: Final = 0x66694A6F
_VERSION: Final = 1
#: Of every file of SQLite.
_BEGINNING: Final = b"SQLite format 3\0"
_TABLES: Final = """
CREATE TABLE configurations (key TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE results (
    configuration TEXT NOT NULL, content BLOB NOT NULL, error TEXT, row TEXT NOT NULL,
    PRIMARY KEY (configuration, content)
) WITHOUT ROWID;
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, modified INTEGER NOT NULL, content BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE outputs (digest BLOB PRIMARY KEY, configuration TEXT NOT NULL) WITHOUT ROWID;
"""
#: Seconds to wait for a process that is just ending.
_PATIENCE: Final = 0.5
#: Files that are remembered before they are written down.
_FILES_AT_ONCE: Final = 4096
#: Rows that a statement inserts. Each statement waits for the interpreter's lock, and SQLite takes 999 values in one.
_ROWS_AT_ONCE: Final = 128


class Stored(NamedTuple):
    """An outcome as it is kept: as text, which takes a fifth of the memory.

    Attributes:
        content: whose it is, 16 bytes; empty for that of a file that could not be read.
        error: the name of the error's class, if it failed.
        row: as JSON.
    """

    content: bytes
    error: str | None
    row: str

    @classmethod
    def of(cls, content: bytes, outcome: Outcome) -> Stored:
        """The outcome of a content."""
        return cls(content, outcome.error, orjson.dumps(outcome.row).decode())

    def outcome(self) -> Outcome:
        """The outcome again.

        Raises:
            ValueError: the row is no JSON object, or the error no name.
        """
        row = orjson.loads(self.row)
        if not isinstance(row, dict) or not isinstance(self.error, str | None):
            raise ValueError(f"a row is {type(row).__name__}, and its error {type(self.error).__name__}")
        return Outcome(row, self.error)


class Journal:
    """An open journal; a context manager. To be used in the thread that opened it.

    Results are kept by configuration and content, so those of another configuration are never seen. Files are known by
    path, size and time of change, as rsync knows them: a file whose bytes were changed while both stayed the same is
    taken for unchanged.

    Args:
        path: the file; created where there is none.

    Raises:
        FastInferError: another process has it open, it is damaged or no journal, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = ""
        self._files: dict[bytes, FileState] = {}
        self._check_beginning()
        with self._errors():
            self._database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        try:
            with self._errors():
                self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _check_beginning(self) -> None:
        """Refuse what is no database: SQLite itself would take a file of a few bytes for an empty one, and write it."""
        try:
            with self.path.open("rb") as stream:
                beginning = stream.read(len(_BEGINNING))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        if beginning not in (b"", _BEGINNING):
            raise self._damaged()

    def _prepare(self) -> None:
        ask = self._database.execute
        # The file may be from anywhere: nothing in it is to be run.
        ask("PRAGMA trusted_schema = OFF")
        # Held until the file is closed. Taken in one step: of two that first read and then write, neither could.
        ask("PRAGMA locking_mode = EXCLUSIVE")
        ask("BEGIN EXCLUSIVE")
        ask("COMMIT")
        (application,), (version,) = ask("PRAGMA application_id").fetchone(), ask("PRAGMA user_version").fetchone()
        new = ask("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        if application != _APPLICATION and not (new and application == version == 0):
            raise FastInferError(
                f"{self.path} is a database of another program, not the journal of a job.",
                hint="Move it elsewhere, or choose another output.",
            )
        if not new and version != _VERSION:
            raise FastInferError(
                f"{self.path} is the journal of another version of fastinfer.",
                hint="Go on with that version, or delete the journal to begin again.",
            )
        ask("PRAGMA journal_mode = WAL")
        ask("PRAGMA synchronous = NORMAL")
        if new:
            with self._transaction():
                for statement in _TABLES.split(";"):
                    ask(statement)
                ask(f"PRAGMA application_id = {_APPLICATION}")
                ask(f"PRAGMA user_version = {_VERSION}")
        elif not self._has_our_tables() or ask("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise self._damaged()

    def _has_our_tables(self) -> bool:
        """Whether there are our tables and nothing else, such as a view that never ends in the place of one."""
        ours = {_folded(statement) for statement in _TABLES.split(";")} - {""}
        found = self._database.execute("SELECT type, sql FROM sqlite_master").fetchmany(len(ours) + 1)
        return {_folded(str(sql)) for kind, sql in found if kind == "table"} == ours and len(found) == len(ours)

    def begin(self, configuration: Configuration) -> None:
        """Use the results of this configuration from now on."""
        self._key = configuration.key
        with self._errors(), self._transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO configurations VALUES (?, ?)",
                (configuration.key, canonical(configuration.content)),
            )

    def is_new(self) -> bool:
        """Whether there is no result at all of the configuration."""
        with self._errors():
            ask = "SELECT 1 FROM results WHERE configuration = ? LIMIT 1"
            return self._database.execute(ask, (self._key,)).fetchone() is None

    def has(self, content: bytes) -> bool:
        """Whether there is a result of this content."""
        with self._errors():
            found = self._database.execute(
                "SELECT 1 FROM results WHERE configuration = ? AND content = ?", (self._key, content)
            ).fetchone()
        return found is not None

    def find(self, content: bytes) -> Outcome:
        """The result of this content.

        Raises:
            FastInferError: there is none.
        """
        with self._errors():
            found = self._database.execute(
                "SELECT content, error, row FROM results WHERE configuration = ? AND content = ?", (self._key, content)
            ).fetchone()
            if found is None:
                raise self._damaged()
            return Stored(*found).outcome()

    def add(self, results: Iterable[Stored]) -> None:
        """Write results and remembered files down, all or nothing."""
        rows = [(self._key, *result) for result in results]
        files = [(path, state.size, state.modified, state.content) for path, state in self._files.items()]
        if not rows and not files:
            return
        with self._errors(), self._transaction():
            self._insert("results (configuration, content, error, row)", rows)
            self._insert("files (path, size, modified, content)", files)
        self._files.clear()

    def _insert(self, columns: str, rows: Sequence[tuple[object, object, object, object]]) -> None:
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[begin : begin + _ROWS_AT_ONCE]
            marks = ", ".join(["(?, ?, ?, ?)"] * len(some))
            self._database.execute(f"INSERT OR REPLACE INTO {columns} VALUES {marks}", [*chain.from_iterable(some)])

    def forget_errors(self) -> None:
        """Remove the results that are errors, so that they are computed again."""
        with self._errors(), self._transaction():
            self._database.execute("DELETE FROM results WHERE configuration = ? AND error IS NOT NULL", (self._key,))

    def file(self, path: bytes) -> FileState | None:
        """What the file at this absolute path was when it was last read, if there is a result of what it contained."""
        with self._errors():
            found = self._database.execute(
                "SELECT size, modified, content FROM files JOIN results USING (content)"
                " WHERE path = ? AND results.configuration = ?",
                (path, self._key),
            ).fetchone()
        if found is None:
            return None
        state = FileState(*found)
        if not (type(state.size) is type(state.modified) is int and type(state.content) is bytes):
            raise self._damaged()
        return state

    def remember(self, path: bytes, state: FileState) -> None:
        """Keep what a file was; written down with the next results."""
        self._files[path] = state
        if len(self._files) >= _FILES_AT_ONCE:
            self.add(())

    def made(self, digest: bytes) -> None:
        """Note that the output with this hash of its bytes is of this configuration."""
        with self._errors(), self._transaction():
            self._database.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?)", (digest, self._key))

    def maker(self, digest: bytes) -> Configuration | None:
        """The configuration that made the output with this hash; None where no job of this journal did."""
        with self._errors():
            found = self._database.execute(
                "SELECT content FROM configurations JOIN outputs ON configuration = key WHERE digest = ?", (digest,)
            ).fetchone()
            if found is None:
                return None
            content = json.loads(str(found[0]))
            if not isinstance(content, dict):
                raise self._damaged()
            return Configuration.of(content)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._database.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._database.in_transaction:  # Ctrl-C came between the statement that began or ended it and what follows
            self._database.rollback()
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.rollback()
            raise
        self._database.commit()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of SQLite, and of JSON that is none, as errors of the journal."""
        try:
            yield
        except (sqlite3.Error, ValueError, MemoryError, RecursionError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> FastInferError:
        text = str(error)
        if "locked" in text:
            return FastInferError(
                f"Another process is working on this output: {self.path} is in use.",
                hint="Wait until it has ended, or choose another output; several processes share a folder by shards.",
            )
        if isinstance(error, sqlite3.OperationalError):
            return self._unusable(text)
        return self._damaged()  # also a MemoryError: SQLite takes what damaged pages say for sizes

    def _unusable(self, why: str) -> FastInferError:
        return FastInferError(
            f"The journal {self.path} cannot be used: {why}.",
            hint="Check that it and its folder may be written to, and that the disk has room.",
        )

    def _damaged(self) -> FastInferError:
        return FastInferError(
            f"{self.path} is damaged, or not the journal of a job.",
            hint="Delete it to compute everything again, or choose another output.",
        )


def _folded(statement: str) -> str:
    return " ".join(statement.split())
