"""Results as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastinfer.optional import require
from fastinfer.tables.columns import Column, Kind, classification_columns, reply_columns

if TYPE_CHECKING:
    import pyarrow

__all__ = ["classification_schema", "classification_table", "reply_schema", "table", "to_rows"]


def classification_schema(*, timings: bool) -> pyarrow.Schema:
    """The schema of rows made by :func:`fastinfer.tables.rows.classification_row`.

    Args:
        timings: with the columns that say where the time went.

    Raises:
        FastInferError: pyarrow is not installed.
    """
    return _schema(classification_columns(timings=timings))


def reply_schema(*, timings: bool = True) -> pyarrow.Schema:
    """The schema of rows made by :func:`fastinfer.tables.rows.reply_row`.

    Args:
        timings: with the columns that say where the time went.

    Raises:
        FastInferError: pyarrow is not installed.
    """
    return _schema(reply_columns(timings=timings))


def classification_table(rows: Iterable[dict[str, Any]], *, timings: bool = True) -> pyarrow.Table:
    """Rows of classifications as a table.

    Args:
        rows: made by :func:`fastinfer.tables.rows.classification_row`.
        timings: the rows have timings.

    Raises:
        FastInferError: pyarrow is not installed.
    """
    return table(rows, classification_schema(timings=timings))


def table(rows: Iterable[dict[str, Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    """Rows as a table of this schema.

    Args:
        rows: each with a value for every column; keys that are no column are left out.
        schema: one of this module, also with columns of your own added.

    Raises:
        FastInferError: pyarrow is not installed.
    """
    kept = list(rows)
    columns = [_column([row[field.name] for row in kept], field.type) for field in schema]
    return _pyarrow().Table.from_arrays(columns, schema=schema)


def to_rows(table: pyarrow.Table) -> list[dict[str, Any]]:
    """The rows of a table, as :func:`table` took them: maps are dicts again."""
    maps = [field.name for field in table.schema if _pyarrow().types.is_map(field.type)]
    made: list[dict[str, Any]] = table.to_pylist()
    for row in made:
        row |= {name: dict(row[name]) for name in maps if row[name] is not None}
    return made


def _column(values: list[Any], kind: pyarrow.DataType) -> pyarrow.Array:
    arrow = _pyarrow()
    if not arrow.types.is_map(kind):
        return arrow.array(values, kind)
    # All keys and all items at once, which is several times faster than map by map; the order of the labels stays.
    begins: list[int | None] = []
    keys: list[str] = []
    items: list[float] = []
    for value in values:
        begins.append(None if value is None else len(keys))
        if value is not None:
            keys.extend(value)
            items.extend(value.values())
    begins.append(len(keys))
    return arrow.MapArray.from_arrays(
        arrow.array(begins, arrow.int32()), arrow.array(keys, kind.key_type), arrow.array(items, kind.item_type)
    )


def _schema(columns: Sequence[Column]) -> pyarrow.Schema:
    arrow = _pyarrow()
    types: dict[Kind, Any] = {
        "string": arrow.string(),
        "double": arrow.float64(),
        "int32": arrow.int32(),
        "int64": arrow.int64(),
        "bool": arrow.bool_(),
        "map": arrow.map_(arrow.string(), arrow.float64()),
        "list": arrow.list_(arrow.string()),
    }
    return arrow.schema([arrow.field(column.name, types[column.kind], column.nullable) for column in columns])


def _pyarrow() -> Any:
    return require("pyarrow", extra="tables", what="An Arrow table")
