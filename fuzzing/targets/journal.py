"""A job's journal and its output, as somebody else may have left them: results as they were written, or one error."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import sqlite3
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

from fastinfer.errors import FastInferError
from fastinfer.jobs.configuration import Configuration
from fastinfer.jobs.journal import Journal, Stored
from fastinfer.jobs.output import Output
from fastinfer.jobs.work import FileState, Outcome

__all__ = ["WORDS", "check", "seeds"]

WORDS = (
    *(b"SQLite format 3\0", b"fiJo", b"CREATE TABLE ", b"CREATE VIEW ", b"CREATE TRIGGER ", b"results"),
    *(b"WITHOUT ROWID", b"files", b"outputs", b'{"label": "cat"}', b"\x0d", b"\x0a", b"\x05", b"\x02"),
)
_CONFIGURATION = Configuration.of({"preset": "fuzzing", "labels": ["cat"]})
_CONTENT, _OTHER = hashlib.blake2b(b"a", digest_size=16).digest(), bytes(16)
_FILE = b"/images/a.png"
_OUTPUT = b'{"label": "cat"}\n'


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _empty() -> Output:
    for left in _folder().iterdir():
        left.unlink()
    return Output.of(_folder() / "out.jsonl", None)


def seeds() -> list[bytes]:
    """An output and a journal that knows it, with small pages; a journal alone; an output alone."""
    output = _empty()
    with sqlite3.connect(output.journal) as small:
        small.execute("PRAGMA page_size = 512")
        small.execute("VACUUM")
    small.close()
    with Journal(output.journal) as journal:
        journal.begin(_CONFIGURATION)
        journal.remember(_FILE, FileState(3, 5, _CONTENT))
        failed = Outcome({}, "ImageDecodeError")
        journal.add([Stored.of(_CONTENT, Outcome({"label": "cat"})), Stored.of(_OTHER, failed)])
        journal.made(_digest(_OUTPUT))
    data = output.journal.read_bytes()
    return [_joined(_OUTPUT, data), _joined(b"", data), _joined(_OUTPUT, b""), _joined(b"", data[:100])]


def _joined(output: bytes, journal: bytes) -> bytes:
    return struct.pack("<H", len(output)) + output + journal


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def check(data: bytes) -> None:
    """Whatever the journal holds, each question has an answer or one error, and what is written now is read again."""
    if len(data) < 2:
        return
    size = struct.unpack_from("<H", data)[0]
    written, stored = data[2 : 2 + size], data[2 + size :]
    output = _empty()
    output.path.write_bytes(written)
    output.journal.write_bytes(stored)
    assert output.digest() == _digest(written)
    try:
        with Journal(output.journal) as journal:
            _ask(journal, written)
            _write(journal)
    except FastInferError as error:
        assert error.hint
        assert str(output.journal) in error.message
    assert output.path.read_bytes() == written, "the journal changed the output"


def _ask(journal: Journal, written: bytes) -> None:
    journal.begin(_CONFIGURATION)
    found = journal.is_new()
    for content in (_CONTENT, _OTHER):
        if journal.has(content):
            assert not found, "a journal without results has one"
            outcome = journal.find(content)
            assert isinstance(outcome.row, dict)
            assert outcome.error is None or isinstance(outcome.error, str)
    state = journal.file(_FILE)
    if state is not None:
        assert type(state.size) is int
        assert type(state.modified) is int
        assert len(state.content) == 16
    made_by = journal.maker(_digest(written))
    assert made_by is None or made_by.key


def _write(journal: Journal) -> None:
    content = struct.pack("<QQ", zlib.crc32(b"new"), 0)
    journal.forget_errors()
    journal.remember(_FILE, FileState(7, 8, content))
    journal.add([Stored.of(content, Outcome({"label": "dog", "n": 1.5}))])
    assert journal.has(content)
    assert journal.find(content) == Outcome({"label": "dog", "n": 1.5})
    assert journal.file(_FILE) == FileState(7, 8, content)
