"""Columns of a batch: those that are read, and those that are put beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastinfer.errors import FastInferError

if TYPE_CHECKING:
    import pyarrow

__all__ = ["beside", "values"]


def values(batch: pyarrow.Table, column: str) -> list[Any]:
    """What a column holds, as Python's own values; arrays where it holds tensors.

    Raises:
        FastInferError: there is no such column.
    """
    if column not in batch.column_names:
        raise FastInferError(
            f"The batch has no column {column!r}.",
            hint=f"Name one of its columns with column=: {', '.join(map(repr, batch.column_names)) or 'it has none'}.",
        )
    return [value for chunk in batch.column(column).chunks for value in _cells(chunk)]


def beside(batch: pyarrow.Table, results: pyarrow.Table, *, prefix: str, leave_out: str | None) -> pyarrow.Table:
    """The batch with the results' columns after its own.

    Args:
        batch: the rows that were asked about.
        results: as many rows.
        prefix: goes before the names of the results' columns.
        leave_out: a column of the batch that is not wanted any more; None keeps all.

    Raises:
        FastInferError: two columns would have one name.
    """
    kept = batch if leave_out is None else batch.drop_columns([leave_out])
    names = [prefix + name for name in results.column_names]
    if twice := sorted(set(names).intersection(kept.column_names)):
        raise FastInferError(
            f"The batch has a column {twice[0]!r} already.",
            hint="Set them apart with prefix=, for example prefix='predicted_'.",
        )
    for name, column in zip(names, results.columns, strict=True):
        kept = kept.append_column(name, column)
    return kept


def _cells(chunk: Any) -> Any:
    if hasattr(chunk, "to_numpy_ndarray"):  # Arrow's own tensors, all of one shape
        return chunk.to_numpy_ndarray()
    if hasattr(chunk, "storage"):  # Ray's tensors, which may be of different shapes
        return chunk.to_numpy(zero_copy_only=False)
    return chunk.to_pylist()
