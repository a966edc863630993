"""Rows to a file and back, in each of the forms an output may have; the same rows are the same bytes.

JSON lines hold rows of any kind. Parquet and CSV hold those of classifications, see :data:`COLUMNS`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from fastinfer.errors import FastInferError
from fastinfer.optional import require
from fastinfer.tables.columns import Column, Kind, classification_columns
from fastinfer.tables.rows import json_line

if TYPE_CHECKING:
    import pyarrow

__all__ = ["COLUMNS", "read", "schema", "write"]

#: Of a classification in a job: the path in its folder in place of the source, and at the end what made it.
COLUMNS: Final = (
    Column("path", "string"),
    *(column for column in classification_columns(timings=False) if column.name != "source"),
    Column("configuration", "string"),
)
#: What a group of rows in Parquet holds, whichever comes first; a probability is a value.
_ROWS, _VALUES = 4096, 1 << 16
#: Rows that are turned into Arrow's columns at a time: meanwhile no other thread has the interpreter's lock.
_AT_A_TIME: Final = 16
_FROM_TEXT: Final[dict[Kind, Callable[[str], Any]]] = {
    "string": str,
    "double": float,
    "int32": int,
    "int64": int,
    "bool": {"true": True, "false": False}.__getitem__,
    "map": json.loads,
    "list": json.loads,
}


def write(stream: BinaryIO, ending: str, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows, a few thousand of them in memory at a time.

    Args:
        stream: an open file.
        ending: ``".jsonl"``, ``".csv"`` or ``".parquet"``.
        rows: each with the same keys in the same order.

    Raises:
        FastInferError: Parquet needs pyarrow, which is not installed.
    """
    if ending == ".jsonl":
        for row in rows:
            stream.write(f"{json_line(row)}\n".encode())
    elif ending == ".csv":
        _write_csv(stream, rows)
    else:
        _write_parquet(stream, rows)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that :func:`write` wrote. In CSV an empty text cannot be told from none, and is None.

    Raises:
        FastInferError: it cannot be read, or pyarrow is needed and not installed.
    """
    try:
        if path.suffix.lower() == ".parquet":
            yield from _read_parquet(path)
            return
        with path.open(encoding="utf-8", newline="") as stream:
            if path.suffix.lower() == ".jsonl":
                yield from map(json.loads, stream)
            else:
                yield from _read_csv(stream)
    except (OSError, ValueError, KeyError) as error:
        raise FastInferError(
            f"{path} cannot be read: {error}.", hint="Run the job again: it writes its output from the journal."
        ) from error


def schema() -> pyarrow.Schema:
    """The Arrow types of :data:`COLUMNS`.

    Raises:
        FastInferError: pyarrow is not installed.
    """
    from fastinfer.tables.arrow import classification_schema

    arrow = require("pyarrow", extra="tables", what="Parquet")
    whole = classification_schema(timings=False)
    kept = [whole.field(column.name) for column in COLUMNS[1:-1]]
    path, made_by = (arrow.field(column.name, arrow.string(), column.nullable) for column in (COLUMNS[0], COLUMNS[-1]))
    return arrow.schema([path, *kept, made_by])


def _write_csv(stream: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    for row in rows:
        writer.writerow([_cell(row[column.name]) for column in COLUMNS])
    text.detach()  # flushes, and leaves the file open


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, dict, list)) else value


def _read_csv(stream: Iterable[str]) -> Iterator[dict[str, Any]]:
    rows = csv.reader(stream)
    if next(rows, None) != [column.name for column in COLUMNS]:
        raise ValueError("it has other columns")
    for row in rows:
        yield {
            column.name: None if text == "" else _FROM_TEXT[column.kind](text)
            for column, text in zip(COLUMNS, row, strict=True)
        }


def _write_parquet(stream: BinaryIO, rows: Iterable[dict[str, Any]]) -> None:
    arrow = require("pyarrow", extra="tables", what="Parquet")
    parquet, columns = require("pyarrow.parquet", extra="tables", what="Parquet"), schema()
    with parquet.ParquetWriter(stream, columns) as writer:
        for group in _groups(rows, columns):
            writer.write_table(arrow.concat_tables(group).combine_chunks())


def _groups(rows: Iterable[dict[str, Any]], columns: pyarrow.Schema) -> Iterator[list[pyarrow.Table]]:
    from fastinfer.tables.arrow import table

    rows = iter(rows)
    group: list[pyarrow.Table] = []
    values = 0
    while some := list(islice(rows, _AT_A_TIME)):
        group.append(table(some, columns))
        values += sum(len(row["probabilities"] or ()) for row in some)
        if len(group) * _AT_A_TIME >= _ROWS or values >= _VALUES:
            yield group
            group, values = [], 0
    if group:
        yield group


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from fastinfer.tables.arrow import to_rows

    parquet = require("pyarrow.parquet", extra="tables", what="Parquet")
    arrow = require("pyarrow", extra="tables", what="Parquet")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield from to_rows(arrow.Table.from_batches([batch]))
