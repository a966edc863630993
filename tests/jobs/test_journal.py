"""The journal: whole or refused, one process at a time, never another configuration's results."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import FastInferError
from fastinfer.jobs.configuration import Configuration
from fastinfer.jobs.journal import Journal, Stored
from fastinfer.jobs.work import FileState, Outcome

ONE, OTHER = (Configuration.of({"labels": [name]}) for name in "ab")
CONTENT = b"0123456789abcdef"


def test_results_and_files_are_there_again_after_it_was_closed(tmp_path: Path) -> None:
    outcome, state = Outcome({"label": "ä", "confidence": 0.1}, None), FileState(12, 34, CONTENT)
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        journal.remember(b"/\xff", state)
        journal.add([Stored.of(CONTENT, outcome)])
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        assert journal.find(CONTENT) == outcome
        assert journal.file(b"/\xff") == state
        assert journal.file(b"/") is None


def test_another_configuration_sees_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        journal.add([Stored.of(CONTENT, Outcome({}, "SomeError"))])
        journal.begin(OTHER)
        assert not journal.has(CONTENT)
        journal.forget_errors()
        journal.begin(ONE)
        assert journal.has(CONTENT)
        journal.forget_errors()
        assert not journal.has(CONTENT)


def test_ctrl_c_between_the_statements_of_a_transaction_loses_nothing(tmp_path: Path) -> None:
    outcome = Outcome({"label": "a"}, None)
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        journal._database.execute("BEGIN IMMEDIATE")  # and then it came
        journal.add([Stored.of(CONTENT, outcome)])
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        assert journal.find(CONTENT) == outcome


@pytest.mark.parametrize("content", [b"no database at all, but some text that is long enough" * 99, b"x"])
def test_a_file_that_is_no_journal_is_refused(engine: Any, photos: Path, tmp_path: Path, content: bytes) -> None:
    foreign = tmp_path / "out.jsonl.journal"
    foreign.write_bytes(content)
    with pytest.raises(FastInferError, match=r"out\.jsonl\.journal is damaged, or not the journal of a job"):
        fastinfer.run(photos, tmp_path / "out.jsonl", using=engine)
    assert foreign.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "j")
    database.execute("CREATE TABLE results (a)")
    database.close()
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(FastInferError, match="database of another program"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_bytes() == before


def test_another_version_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    database = sqlite3.connect(tmp_path / "j")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(FastInferError, match="another version"):
        Journal(tmp_path / "j")


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i{} FROM n"


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE results; CREATE VIEW results (configuration, content, error, row) AS " + ENDLESS.format(", i, i"),
        f"CREATE TRIGGER t AFTER INSERT ON results BEGIN INSERT INTO outputs {ENDLESS.format('')}; END",
        "CREATE TABLE more (a)",
        "DROP TABLE files; CREATE TABLE files (path, size, modified, content AS (zeroblob(1000000000)))",
        "CREATE INDEX i ON results (row)",
    ],
)
def test_a_journal_with_other_tables_views_or_triggers_is_refused(tmp_path: Path, statement: str) -> None:
    Journal(tmp_path / "j").close()
    database = sqlite3.connect(tmp_path / "j")
    database.executescript(statement)
    database.close()
    with pytest.raises(FastInferError, match="is damaged, or not the journal of a job"):
        Journal(tmp_path / "j")


@pytest.mark.parametrize("row", ["[]", "7", "null", "{", 7, b"{}\xff", '{"a": NaN}'])
def test_a_row_that_is_no_object_is_damage(tmp_path: Path, row: object) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        journal._database.execute("INSERT INTO results VALUES (?, ?, NULL, ?)", (ONE.key, CONTENT, row))
        with pytest.raises(FastInferError, match="is damaged"):
            journal.find(CONTENT)


def test_what_is_known_of_a_file_or_an_output_is_of_the_right_type_or_damage(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.begin(ONE)
        journal.add([Stored.of(CONTENT, Outcome({}))])
        journal._database.execute("INSERT INTO files VALUES (?, 'large', 1.5, ?)", (b"/a", CONTENT))
        with pytest.raises(FastInferError, match="is damaged"):
            journal.file(b"/a")
        journal.made(CONTENT)
        for content in ("[]", "7", "{"):
            journal._database.execute("UPDATE configurations SET content = ?", (content,))
            with pytest.raises(FastInferError, match="is damaged"):
                journal.maker(CONTENT)


def test_a_damaged_journal_is_an_error_and_no_traceback(engine: Any, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    fastinfer.run(photos, output, using=engine)
    journal = tmp_path / "out.jsonl.journal"
    whole = journal.read_bytes()
    page = int.from_bytes(whole[16:18], "big")
    for place in range(0, len(whole), page):
        journal.write_bytes(whole[: place + 100] + b"\xa5" * (page - 100) + whole[place + page :])
        with pytest.raises(FastInferError, match="journal"):
            fastinfer.run(photos, output, using=engine)
    journal.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FastInferError, match="journal"):
        fastinfer.run(photos, output, using=engine)


def test_a_second_process_is_told_to_wait(photos: Path, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    output = tmp_path / "out.jsonl"
    code = f"import fastinfer; fastinfer.run({str(photos)!r}, {str(output)!r})"
    with Journal(Path(f"{output}.journal")):
        other = run_python(code)
    assert "FastInferError: Another process is working on this output" in other.stderr
    assert not output.exists()


def test_a_folder_that_is_not_there_is_named(engine: Any, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(FastInferError, match=r"There is no folder .*nowhere"):
        fastinfer.run(photos, tmp_path / "nowhere" / "out.jsonl", using=engine)
