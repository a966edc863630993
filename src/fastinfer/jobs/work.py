"""What a job computes, as the runner sees it: items that come in order, results that come back in the same order.

A work knows its items and its engine; the runner knows the journal, the groups, the progress and the output. Neither
knows the other's part, so that images and prompts are run by the same code.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from fastinfer.jobs.configuration import Configuration
    from fastinfer.provenance import Provenance

__all__ = ["Computed", "Cost", "Entry", "FileState", "Known", "Outcome", "Work"]

Payload = TypeVar("Payload")


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file was when it was read.

    Attributes:
        size: bytes.
        modified: its mtime in nanoseconds.
        content: the hash of its bytes, 16 bytes.
    """

    size: int
    modified: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a content.

    Attributes:
        row: plain values that JSON can hold, every string of them UTF-8 and every number finite. It says nothing of
            the item but what its content decides, as items of the same content share it; the rest is added by
            :meth:`Work.finish`.
        error: the name of the error's class, if it failed.
    """

    row: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Entry(Generic[Payload]):
    """An item as its turn comes.

    Attributes:
        content: 16 bytes that stand for all of the item that decides its result; None where it could not be read.
        payload: what to compute; None where the journal is known to have the content's result.
        failure: with ``content`` None, the outcome. It is not journaled: the item is tried again the next time.
    """

    content: bytes | None
    payload: Payload | None = None
    failure: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Where the time of one computed item went, in milliseconds.

    Attributes:
        decode_ms: preparing it, in one of the work's ``decode_workers``.
        queued_ms: waiting for the engine.
        engine_ms: in the engine; its share, where several are computed together.
        prefill_ms: of these, what a chat model took to read prompts.
    """

    decode_ms: float = 0.0
    queued_ms: float = 0.0
    engine_ms: float = 0.0
    prefill_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Computed:
    """A result.

    Attributes:
        outcome: what is journaled.
        cost: where its time went.
    """

    outcome: Outcome
    cost: Cost


class Known(Protocol):
    """What the journal knows; given to :meth:`Work.entries`. To be used in the thread that iterates."""

    def has(self, content: bytes) -> bool:
        """Whether there is a result of this content, by this configuration."""
        ...

    def file(self, path: bytes) -> FileState | None:
        """What the file at this absolute path was when it was last read, if there is a result of what it contained."""
        ...

    def remember(self, path: bytes, state: FileState) -> None:
        """Keep it for the next run."""
        ...


class Work(Protocol[Payload]):
    """Items, an engine, and the form of the rows. Its properties stay as they are."""

    @property
    def kind(self) -> str:
        """``"classify"`` or ``"chat"``."""
        ...

    @property
    def unit(self) -> str:
        """What an item is called beside a progress bar, ``"image"`` for example."""
        ...

    @property
    def configuration(self) -> Configuration:
        """Everything that decides a result."""
        ...

    @property
    def provenance(self) -> Provenance:
        """What runs."""
        ...

    @property
    def group(self) -> int:
        """Results are journaled in whole groups of so many payloads, counted from the first of a run.

        Where a result depends on what is computed with it, that is what makes a job that was interrupted end with the
        same bytes.
        """
        ...

    @property
    def decode_workers(self) -> int:
        """What prepares items side by side; 0 where nothing is to be prepared."""
        ...

    def __len__(self) -> int:
        """How many items there are."""
        ...

    def entries(self, known: Known) -> Generator[Entry[Payload], None, None]:
        """Every item in order, as lazily as it is asked for; closed when the job ends."""
        ...

    def compute(self, payloads: Iterator[Payload]) -> Generator[Computed, None, None]:
        """The results in the order of the payloads, which are taken as they are needed; closed when the job ends.

        An item that fails has an outcome with ``error`` set.

        Raises:
            FastInferError: one that :func:`fastinfer.errors.raise_if_fatal` raises; the job ends with it.
        """
        ...

    def finish(self, place: int, row: dict[str, Any]) -> dict[str, Any]:
        """The row of the output: that of the outcome, with what belongs to the item at this place; may change ``row``.

        Its keys are the columns of the output, in their order. Called for every item, in order, once it is computed.
        """
        ...
