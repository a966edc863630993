"""The collection of results that users hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from fastinfer.chat.results import Reply
from fastinfer.classify.results import Classification
from fastinfer.replacement import write_lines
from fastinfer.showing import Report, Shown
from fastinfer.tables.columns import Column, classification_columns, reply_columns
from fastinfer.tables.display import classifications_report, replies_report
from fastinfer.tables.rows import classification_row, json_line, reply_row

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Results"]

Result = TypeVar("Result", Classification, Reply)


class Results(Shown, Sequence[Result]):
    """Results of many images or of many conversations, as a sequence that becomes a table.

        results = fastinfer.Results(clf.classify_many(images, errors="return"))
        results.to_pandas().groupby("label").confidence.mean()

    Args:
        results: any iterable of :class:`fastinfer.Classification`, or of :class:`fastinfer.Reply`; it is read to its
            end, and what it raises is raised. All results stay in memory: for more than that holds, use
            :func:`fastinfer.run`.

    Raises:
        TypeError: an item is neither of the two, or both kinds are among them.
    """

    __slots__ = ("_items", "_kind")
    _items: tuple[Result, ...]
    _kind: type[Classification] | type[Reply]

    def __init__(self, results: Iterable[Result] = ()) -> None:
        items = tuple(results)
        if isinstance(results, Results):
            self._kind = results._kind  # known also where it is empty
        else:
            self._kind = Reply if items and isinstance(items[0], Reply) else Classification
        for place, item in enumerate(items):
            if not isinstance(item, self._kind):
                raise TypeError(
                    f"Results holds Classifications or Replies, all of one kind: item {place} is a "
                    f"{type(item).__name__}, not a {self._kind.__name__}"
                )
        self._items = items

    @property
    def ok(self) -> Results[Result]:
        """Those without an error."""
        return self._of(item for item in self._items if item.ok)

    @property
    def errors(self) -> Results[Result]:
        """Those that failed; ``.error`` of each says why."""
        return self._of(item for item in self._items if not item.ok)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Everything in each result as plain values that JSON can hold, its provenance included."""
        return [item.to_dict() for item in self._items]

    def to_pandas(self, *, timings: bool = True) -> pandas.DataFrame:
        """A row for each result, in order.

        Args:
            timings: with the columns that say where the time went.

        Returns:
            The columns of :func:`fastinfer.tables.rows.classification_row` or :func:`fastinfer.tables.rows.reply_row`
            (those of a classification if there is no result at all). Strings are of dtype ``string``, with NA where
            there is none; probabilities are float64, with NaN for an image that failed; ``probabilities`` has a dict
            from label to probability in each row, best first, and ``prediction_set`` a list.

        Raises:
            FastInferError: pandas is not installed.
        """
        from fastinfer.tables.frames import frame

        return frame(self._rows(timings), self._columns(timings))

    def to_arrow(self, *, timings: bool = True) -> pyarrow.Table:
        """The same rows and columns as an Arrow table, probabilities as ``map<string, double>``.

        Args:
            timings: with the columns that say where the time went.

        Raises:
            FastInferError: pyarrow is not installed.
        """
        from fastinfer.tables import arrow

        schema = (arrow.reply_schema if self._kind is Reply else arrow.classification_schema)(timings=timings)
        return arrow.table(self._rows(timings), schema)

    def to_jsonl(self, path: str | os.PathLike[str], *, timings: bool = True) -> None:
        """Write the same rows as JSON lines, in UTF-8: a JSON object a line, its keys the columns.

        The file is there when it is complete; one that exists is replaced then, and not before.

        Args:
            path: of the file; its folder must exist.
            timings: with the keys that say where the time went.

        Raises:
            FastInferError: the file cannot be written.
        """
        write_lines(path, map(json_line, self._rows(timings)))

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> Results[Result]: ...
    def __getitem__(self, place: int | slice) -> Result | Results[Result]:
        if isinstance(place, slice):
            return self._of(self._items[place])
        return self._items[place]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return self._items == other._items if isinstance(other, Results) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # results hold dicts

    def __repr__(self) -> str:
        failed = len(self.errors)
        return f"<Results: {len(self)} {self._kind.__name__} results, {failed} failed>"

    def _report(self) -> Report:
        return _report(self._items, self._kind)

    def _of(self, items: Iterable[Result]) -> Results[Result]:
        made = Results(items)
        made._kind = self._kind
        return made

    def _columns(self, timings: bool) -> tuple[Column, ...]:
        return (reply_columns if self._kind is Reply else classification_columns)(timings=timings)

    def _rows(self, timings: bool) -> list[dict[str, Any]]:
        return [_row(item, timings) for item in self._items]


def _row(item: Classification | Reply, timings: bool) -> dict[str, Any]:
    if isinstance(item, Reply):
        return reply_row(item, timings=timings)
    return classification_row(item, timings=timings)


def _report(items: Sequence[Classification | Reply], kind: type[Classification] | type[Reply]) -> Report:
    if kind is Reply:
        return replies_report([item for item in items if isinstance(item, Reply)])
    return classifications_report([item for item in items if isinstance(item, Classification)])
