"""What a job returns: how many of what, how fast, and the way to its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastinfer.optional import require
from fastinfer.provenance import Provenance
from fastinfer.showing import Report, Section, Shown

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["JobSummary"]


@dataclass(frozen=True, slots=True)
class JobSummary(Shown):
    """A job that ran to its end. ``str()`` gives text; notebooks and rich consoles show it too.

    ``total`` is the sum of ``computed``, ``reused``, ``duplicates`` and the items that could not be read.

    Attributes:
        output: the file of the results; of a shard, with its number.
        journal: what the job knows for its next run; with it deleted, that computes everything again.
        kind: ``"classify"`` or ``"chat"``.
        unit: what an item is called.
        total: rows of the output.
        computed: items that this run computed.
        reused: items whose result the journal had.
        duplicates: items with the same bytes as an item before them, whose result they share.
        errors: rows with an error.
        errors_by_type: how many there are of each class of errors, by its name.
        seconds: that the run took, without loading the model.
        rate: items computed a second.
        bottleneck: what the run waited for, in words.
        configuration: 16 hexadecimal digits that stand for everything that decides a result.
        provenance: what ran.
    """

    output: Path
    journal: Path
    kind: str
    unit: str
    total: int
    computed: int
    reused: int
    duplicates: int
    errors: int
    errors_by_type: dict[str, int]
    seconds: float
    rate: float
    bottleneck: str
    configuration: str
    provenance: Provenance

    @property
    def ok(self) -> bool:
        """No row has an error."""
        return not self.errors

    @property
    def counts(self) -> str:
        """How many of what, on one line."""
        return (
            f"{self.total} {self.unit}{'' if self.total == 1 else 's'}: {self.computed} computed, {self.reused} known "
            f"from before, {self.duplicates} copies of others, {self.errors} with an error"
        )

    def results(self) -> Iterator[dict[str, Any]]:
        """The rows, read back from the output one by one.

        Raises:
            FastInferError: the output cannot be read, or pyarrow is needed and not installed.
        """
        from fastinfer.jobs.writers import read

        return read(self.output)

    def to_arrow(self) -> pyarrow.Table:
        """The rows as a table of pyarrow.

        Raises:
            FastInferError: as :meth:`results`; or pyarrow is not installed.
        """
        arrow = require("pyarrow", extra="tables", what="An Arrow table")
        if self.kind == "chat":
            return arrow.Table.from_pylist(list(self.results()))
        from fastinfer.jobs.writers import schema
        from fastinfer.tables.arrow import table

        return table(self.results(), schema())

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a data frame of pandas.

        Raises:
            FastInferError: as :meth:`results`; or pandas is not installed.
        """
        frames = require("pandas", extra="notebook", what="A data frame")
        frame: pandas.DataFrame = frames.DataFrame(list(self.results()))
        return frame

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values that JSON can hold."""
        return asdict(self) | {"output": str(self.output), "journal": str(self.journal)}

    def _report(self) -> Report:
        ran = self.provenance
        return Report(
            title=str(self.output),
            before=(
                f"{self.counts}.",
                f"{self.seconds:.1f} s, {self.rate:.1f} {self.unit}s computed a second; {self.bottleneck}.",
                f"{ran.model}, {ran.engine}, {ran.device}, preset {ran.preset}; configuration {self.configuration}.",
            ),
            headings=("Error", "Rows"),
            rows=[(name, str(count)) for name, count in self.errors_by_type.items()],
            sections=[
                Section(
                    "The engine got other values than the preset's",
                    [str(adjustment) for adjustment in ran.adjustments],
                )
            ],
        )
