"""Results as pandas data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from fastinfer.optional import require
from fastinfer.tables.columns import Column, Kind

if TYPE_CHECKING:
    import pandas

__all__ = ["frame"]

#: By name, the same in pandas 2 and 3: strings with NA, doubles with NaN, whole numbers with NA where there may be any.
_TYPES: Final[dict[Kind, str]] = {
    "string": "string",
    "double": "float64",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "map": "object",
    "list": "object",
}
_NULLABLE: Final[dict[Kind, str]] = {"int32": "Int32", "int64": "Int64", "bool": "boolean"}


def frame(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> pandas.DataFrame:
    """Rows as a data frame; a column's type depends on the column alone, never on the values that are in it.

    Args:
        rows: each with a value for every column.
        columns: of :mod:`fastinfer.tables.columns`.

    Returns:
        A frame with an index from 0. Maps stay dicts and lists stay lists, as objects.

    Raises:
        FastInferError: pandas is not installed.
    """
    library = require("pandas", extra="tables", what="A data frame")
    made = {}
    for column in columns:
        kind = _NULLABLE.get(column.kind, _TYPES[column.kind]) if column.nullable else _TYPES[column.kind]
        made[column.name] = library.Series([row[column.name] for row in rows], dtype=kind)
    framed: pandas.DataFrame = library.DataFrame(made)
    return framed
