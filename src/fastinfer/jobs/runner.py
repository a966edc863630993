"""Runs a work: what the journal lacks is computed in groups and journaled, and rows are written in their order."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Any, BinaryIO, Final, Generic, TypeVar

from fastinfer.engines.cores import usable_cores
from fastinfer.errors import FastInferError, RequestCancelledError
from fastinfer.jobs.bottleneck import Spent, bottleneck
from fastinfer.jobs.configuration import differences
from fastinfer.jobs.journal import Journal, Stored
from fastinfer.jobs.output import Output
from fastinfer.jobs.progress import Progress
from fastinfer.jobs.summary import JobSummary
from fastinfer.jobs.work import Entry, FileState, Known, Outcome, Work
from fastinfer.jobs.writers import write

__all__ = ["RunOptions", "run_work"]

_log = logging.getLogger(__name__)

Payload = TypeVar("Payload")

#: Seconds between commits, each of which waits for no disk.
_COMMIT_EVERY: Final = 0.5
#: Results that are kept in memory, but for the rest of a group.
_COMMIT_AT: Final = 1024


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a work is run, whatever it computes.

    Attributes:
        retry_errors: compute again what the journal says has failed.
        overwrite: replace an output that another configuration made, or none of this journal.
        progress: show a bar.
        stop: set from another thread, it ends the job at the next commit.
    """

    retry_errors: bool = False
    overwrite: bool = False
    progress: bool = False
    stop: Event | None = None


def run_work(work: Work[Payload], output: Output, journal: Journal, options: RunOptions) -> JobSummary:
    """Run a work to its end.

    Args:
        work: what to compute; its engine stays open.
        output: where to.
        journal: that of the output, open.
        options: how.

    Raises:
        FastInferError: the output is not to be overwritten, or what ended the job; all that was complete is kept.
        RequestCancelledError: it was stopped; likewise.
    """
    journal.begin(work.configuration)
    if not options.overwrite:
        _check_output(work, output, journal)
    if options.retry_errors:
        journal.forget_errors()
    return _Run(work, output, journal, options).run()


def _check_output(work: Work[Any], output: Output, journal: Journal) -> None:
    digest = output.digest()
    if digest is None:
        return
    made_by = journal.maker(digest)
    if made_by is None:
        raise FastInferError(
            f"{output.path} is there already, and {journal.path} does not know it.",
            hint="Choose another output, or say overwrite to replace it.",
        )
    if made_by.key != work.configuration.key:
        raise FastInferError(
            f"{output.path} was made by another configuration: "
            f"{'; '.join(differences(made_by.content, work.configuration.content))}.",
            hint="Choose another output, or say overwrite to replace it.",
        )


class _NothingKnown:
    """What a job without earlier results knows: asking SQLite for every file costs turns at the interpreter's lock."""

    def __init__(self, journal: Journal) -> None:
        self.remember = journal.remember

    def has(self, _: bytes) -> bool:
        return False

    def file(self, _: bytes) -> FileState | None:
        return None


class _Run(Generic[Payload]):
    """One run. Rows are written while later ones are computed: the engine does not wait for the output."""

    def __init__(self, work: Work[Payload], output: Output, journal: Journal, options: RunOptions) -> None:
        self._work, self._output, self._journal, self._options = work, output, journal, options
        self._known: Known = _NothingKnown(journal) if journal.is_new() else journal
        self._spent = Spent(group=work.group, decode_workers=work.decode_workers, cores=usable_cores())
        self._seen: set[bytes] = set()
        #: Items that are not yet written, in order: what they contain, or what became of those that cannot be read.
        self._unwritten: deque[bytes | Outcome] = deque()
        #: Contents that are being computed, oldest first, and results that are not yet journaled.
        self._computing: deque[bytes] = deque()
        self._pending: dict[bytes, Stored] = {}
        self._total = self._reused = self._duplicates = 0
        self._errors: Counter[str] = Counter()
        self._progress = Progress(len(work), work.unit, shown=options.progress)
        self._begun = self._committed = time.perf_counter()

    def run(self) -> JobSummary:
        work, spent, output = self._work, self._spent, self._output
        _log.info("A job of %d items begins; its output is %s.", len(work), output.path)

        def write_all(stream: BinaryIO) -> None:
            with closing(self._rows()) as rows:  # also where writing fails, so that what was computed is kept
                write(stream, output.ending, rows)

        with self._progress:
            output.replace(write_all, self._journal.made)
        spent.seconds = time.perf_counter() - self._begun
        summary = JobSummary(
            output=output.path,
            journal=output.journal,
            kind=work.kind,
            unit=work.unit,
            total=self._total,
            computed=spent.computed,
            reused=self._reused,
            duplicates=self._duplicates,
            errors=sum(self._errors.values()),
            errors_by_type=dict(sorted(self._errors.items())),
            seconds=spent.seconds,
            rate=spent.computed / spent.seconds,
            bottleneck=bottleneck(spent),
            configuration=work.configuration.key,
            provenance=work.provenance,
        )
        _log.info("The job is done: %s.", summary.counts)
        return summary

    def _rows(self) -> Generator[dict[str, Any], None, None]:
        """The rows of the output, in order, each as soon as it is known."""
        with closing(self._outcomes()) as outcomes:
            for place, outcome in enumerate(outcomes):
                if outcome.error is not None:
                    self._errors[outcome.error] += 1
                row = self._work.finish(place, outcome.row)
                begun = time.perf_counter()
                yield row
                self._spent.writing += time.perf_counter() - begun

    def _outcomes(self) -> Generator[Outcome, None, None]:
        group = self._work.group
        with closing(self._work.entries(self._known)) as entries:
            try:
                with closing(self._work.compute(self._payloads(entries))) as results:
                    for result in results:
                        content = self._computing.popleft()
                        self._pending[content] = Stored.of(content, result.outcome)
                        self._spent.add(result.cost)
                        self._tick(failed=result.outcome.error is not None)
                        yield from self._settled(content, result.outcome)
                        if len(self._pending) % group == 0:
                            self._end_group()
                self._commit()
                yield from self._settled()
            except BaseException:
                # What was begun of a group would be computed in other company the next time.
                for content in list(self._pending)[len(self._pending) // group * group :]:
                    del self._pending[content]
                self._commit()
                raise

    def _payloads(self, entries: Iterator[Entry[Payload]]) -> Iterator[Payload]:
        """What has to be computed, each content once, at the place of its first item."""
        while True:
            self._check_stopped()
            begun = time.perf_counter()
            entry = next(entries, None)
            self._spent.reading += time.perf_counter() - begun
            if entry is None:
                return
            self._total += 1
            content = entry.content
            if content is None:
                assert entry.failure is not None
                self._unwritten.append(entry.failure)
                self._tick(failed=True)
                continue
            self._unwritten.append(content)
            if content in self._seen:
                self._duplicates += 1
                self._tick()
                continue
            self._seen.add(content)
            if entry.payload is None or self._known.has(content):
                self._reused += 1
                self._tick()
            else:
                self._computing.append(content)
                yield entry.payload

    def _settled(self, content: bytes | None = None, outcome: Outcome | None = None) -> Iterator[Outcome]:
        """The outcomes of the items that are next and wait for nothing.

        Args:
            content: what was just computed; asked for by the first item that has it.
            outcome: of it.
        """
        while self._unwritten:
            item = self._unwritten[0]
            if self._computing and item == self._computing[0]:
                return
            self._unwritten.popleft()
            if isinstance(item, Outcome):
                yield item
            elif outcome is not None and item is content:
                yield outcome
            elif (pending := self._pending.get(item)) is not None:
                yield pending.outcome()
            else:
                yield self._journal.find(item)

    def _end_group(self) -> None:
        stopped = self._stopped()
        late = time.perf_counter() - self._committed >= _COMMIT_EVERY
        if stopped or late or len(self._pending) >= _COMMIT_AT:
            self._commit()
        if stopped:
            self._check_stopped()

    def _commit(self) -> None:
        begun = time.perf_counter()
        self._journal.add(self._pending.values())
        self._pending.clear()
        self._committed = time.perf_counter()
        self._spent.writing += self._committed - begun

    def _tick(self, *, failed: bool = False) -> None:
        self._spent.seconds = time.perf_counter() - self._begun
        self._progress.done(self._spent, failed=failed)

    def _stopped(self) -> bool:
        return self._options.stop is not None and self._options.stop.is_set()

    def _check_stopped(self) -> None:
        if self._stopped():
            raise RequestCancelledError(
                f"The job to {self._output.path} was stopped.", hint="Run it again: it goes on where it was."
            )
