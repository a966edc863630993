"""The rows of a results file, or of a file with the truth, one at a time: Parquet, JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import FastInferError
from fastinfer.optional import require

__all__ = ["rows_in"]

#: Rows of a Parquet file that are held at once.
_BATCH: Final = 1024


def rows_in(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The rows of a table on disk, lazily, each a value by the name of its column.

    Args:
        path: a ``.parquet``, ``.jsonl`` or ``.csv`` file; texts are UTF-8. CSV gives every value as text.

    Raises:
        FastInferError: there is no such file, it is of another kind or damaged, or Parquet is asked for without
            pyarrow.
    """
    file = Path(path)
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise FastInferError(
            f"{file} is not a table that can be read: its name ends in {file.suffix or 'nothing'!r}.",
            hint=f"Give a file that ends in {', '.join(_READERS)}.",
        )
    try:
        yield from reader(file)
    except OSError as error:
        raise FastInferError(
            f"{file} cannot be read: {error.strerror or error}.", hint="Check the path and its permissions."
        ) from error
    except UnicodeDecodeError as error:
        raise FastInferError(f"{file} is not UTF-8 text.", hint="Save it as UTF-8.") from error


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, restkey="")
        try:
            for row in reader:
                if "" in row or None in row.values():
                    raise FastInferError(
                        f"{file}, line {reader.line_num}: the row has another number of columns than the first line.",
                        hint="Put quotation marks around values that hold commas, and a heading over every column.",
                    )
                yield row
        except csv.Error as error:
            raise FastInferError(
                f"{file}, line {reader.line_num}: {error}.", hint="Give a CSV file with a line of headings."
            ) from error


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig") as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise FastInferError(
                    f"{file}, line {number}: {error}.", hint="Every line must hold one JSON object."
                ) from error
            if not isinstance(row, dict):
                raise FastInferError(
                    f"{file}, line {number} holds a {type(row).__name__}.", hint="Every line must hold one JSON object."
                )
            yield row


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    parquet = require("pyarrow.parquet", extra="tables", what="Parquet")
    arrow = require("pyarrow", extra="tables", what="Parquet")
    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except arrow.ArrowException as error:
        raise FastInferError(f"{file} is not a Parquet file that can be read: {error}", hint="Write it again.") from (
            error
        )


_READERS: Final[dict[str, Callable[[Path], Iterator[dict[str, Any]]]]] = {
    ".parquet": _parquet,
    ".jsonl": _json_lines,
    ".csv": _csv,
}
