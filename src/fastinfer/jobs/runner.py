"""Runs a work: what the journal lacks is computed in groups, journaled, and then all of it is written out."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Any, Final, Generic, TypeVar

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
    def __init__(self, work: Work[Payload], output: Output, journal: Journal, options: RunOptions) -> None:
        self._work, self._output, self._journal, self._options = work, output, journal, options
        self._known: Known = _NothingKnown(journal) if journal.is_new() else journal
        self._spent = Spent(group=work.group, decode_workers=work.decode_workers, cores=usable_cores())
        #: The content of each item so far, in order; None for those that could not be read.
        self._contents: list[bytes | None] = []
        self._seen: set[bytes] = set()
        #: The outcomes of the items that could not be read, by their places.
        self._unread: dict[int, Stored] = {}
        #: Contents that are being computed, oldest first, and results that are not yet journaled.
        self._computing: deque[bytes] = deque()
        self._pending: list[Stored] = []
        self._reused = 0
        self._progress = Progress(len(work), work.unit, shown=options.progress)
        self._begun = self._committed = time.perf_counter()

    def run(self) -> JobSummary:
        work, spent = self._work, self._spent
        _log.info("A job of %d items begins; its output is %s.", len(work), self._output.path)
        with self._progress:
            self._compute()
            errors = self._write()
        summary = JobSummary(
            output=self._output.path,
            journal=self._output.journal,
            kind=work.kind,
            unit=work.unit,
            total=len(self._contents),
            computed=spent.computed,
            reused=self._reused,
            duplicates=len(self._contents) - len(self._seen) - len(self._unread),
            errors=sum(errors.values()),
            errors_by_type=dict(sorted(errors.items())),
            seconds=spent.seconds,
            rate=spent.computed / spent.seconds,
            bottleneck=bottleneck(spent),
            configuration=work.configuration.key,
            provenance=work.provenance,
        )
        _log.info("The job is done: %s.", summary.counts)
        return summary

    def _compute(self) -> None:
        group = self._work.group
        with closing(self._work.entries(self._known)) as entries:
            try:
                with closing(self._work.compute(self._payloads(entries))) as results:
                    for result in results:
                        self._pending.append(Stored.of(self._computing.popleft(), result.outcome))
                        self._spent.add(result.cost)
                        self._tick(failed=result.outcome.error is not None)
                        if len(self._pending) % group == 0:
                            self._end_group()
            except BaseException:
                # What was begun of a group would be computed in other company the next time.
                del self._pending[len(self._pending) // group * group :]
                self._commit()
                raise
        self._commit()

    def _payloads(self, entries: Iterator[Entry[Payload]]) -> Iterator[Payload]:
        """What has to be computed, each content once, at the place of its first item."""
        while True:
            self._check_stopped()
            begun = time.perf_counter()
            entry = next(entries, None)
            self._spent.reading += time.perf_counter() - begun
            if entry is None:
                return
            content = entry.content
            self._contents.append(content)
            if content is None:
                assert entry.failure is not None
                self._unread[len(self._contents) - 1] = Stored.of(b"", entry.failure)
                self._tick(failed=True)
            elif content in self._seen:
                self._tick()
            else:
                self._seen.add(content)
                if self._known.has(content):
                    self._reused += 1
                    self._tick()
                else:
                    assert entry.payload is not None
                    self._computing.append(content)
                    yield entry.payload

    def _end_group(self) -> None:
        stopped = self._stopped()
        late = time.perf_counter() - self._committed >= _COMMIT_EVERY
        if stopped or late or len(self._pending) >= _COMMIT_AT:
            self._commit()
        if stopped:
            self._check_stopped()

    def _commit(self) -> None:
        begun = time.perf_counter()
        self._journal.add(self._pending)
        self._pending.clear()
        self._committed = time.perf_counter()
        self._spent.writing += self._committed - begun

    def _write(self) -> Counter[str]:
        """Write the output; how many rows have an error of which class."""
        begun = time.perf_counter()
        errors: Counter[str] = Counter()

        def rows() -> Iterator[dict[str, Any]]:
            for place, content in enumerate(self._contents):
                outcome = self._outcome(place, content)
                if outcome.error is not None:
                    errors[outcome.error] += 1
                yield self._work.finish(place, outcome.row)

        self._output.replace(lambda stream: write(stream, self._output.ending, rows()), self._journal.made)
        self._spent.writing += time.perf_counter() - begun
        self._spent.seconds = time.perf_counter() - self._begun
        return errors

    def _outcome(self, place: int, content: bytes | None) -> Outcome:
        return self._unread[place].outcome() if content is None else self._journal.find(content)

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
