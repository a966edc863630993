"""The columns of a table of results: their names, order and kinds, whatever library holds the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["Column", "Kind", "classification_columns", "reply_columns"]

#: ``"map"`` is from a string to a double, ``"list"`` of strings.
Kind = Literal["string", "double", "int32", "int64", "bool", "map", "list"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: its heading, and the key in a row.
        kind: of its values.
        nullable: rows may have None in it.
        timing: says where the time went; left out of tables without timings.
    """

    name: str
    kind: Kind
    nullable: bool = False
    timing: bool = False


_ERROR: Final = (Column("error_type", "string", nullable=True), Column("error_message", "string", nullable=True))

_CLASSIFICATION: Final = (
    Column("source", "string"),
    Column("label", "string", nullable=True),
    Column("confidence", "double", nullable=True),
    Column("label_mass", "double", nullable=True),
    Column("probabilities", "map", nullable=True),
    Column("prediction_set", "list", nullable=True),
    Column("abstained", "bool"),
    Column("prompt_tokens", "int32"),
    *_ERROR,
    Column("decode_ms", "double", nullable=True, timing=True),
    Column("queued_ms", "double", nullable=True, timing=True),
    Column("encode_ms", "double", nullable=True, timing=True),
    Column("score_ms", "double", nullable=True, timing=True),
    Column("batch_size", "int32", nullable=True, timing=True),
)

_REPLY: Final = (
    Column("text", "string"),
    Column("reasoning", "string"),
    Column("finish_reason", "string"),
    Column("prompt_tokens", "int32"),
    Column("cached_tokens", "int32"),
    Column("completion_tokens", "int32"),
    Column("queued_ms", "double", timing=True),
    Column("prompt_ms", "double", timing=True),
    Column("predicted_ms", "double", timing=True),
    Column("tokens_per_second", "double", timing=True),
    Column("tool_calls", "string", nullable=True),
    Column("parsed", "string", nullable=True),
    Column("seed", "int64", nullable=True),
    *_ERROR,
)


def classification_columns(*, timings: bool) -> tuple[Column, ...]:
    """Columns of a :class:`fastinfer.Classification`; see :func:`fastinfer.tables.rows.classification_row`.

    Args:
        timings: with those that say where the time went.
    """
    return _chosen(_CLASSIFICATION, timings)


def reply_columns(*, timings: bool) -> tuple[Column, ...]:
    """Columns of a :class:`fastinfer.Reply`; see :func:`fastinfer.tables.rows.reply_row`.

    Args:
        timings: with those that say where the time went.
    """
    return _chosen(_REPLY, timings)


def _chosen(columns: tuple[Column, ...], timings: bool) -> tuple[Column, ...]:
    return tuple(column for column in columns if timings or not column.timing)
