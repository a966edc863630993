"""Something that an engine's process is asked, and how much it may be what such processes die of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

from fastinfer.engines.isolated.process import EngineProcess
from fastinfer.errors import EngineDeadError, FastInferError

__all__ = ["Request"]

#: How suspicious a request has to be to be repeated alone, and to be given up. It becomes so by the deaths of processes
#: that were computing it: by 1, and by 2 where the process hung, since each time costs as long as a step may take.
_ALONE: Final = 2
_GIVEN_UP: Final = 3
_HUNG: Final = 2


class Request(ABC):
    """Something that the process is asked. Its methods but for :meth:`prepare` are for the supervisor's thread.

    Attributes:
        number: by which answers name it.
        deaths: of processes that were computing this.
        is_over: it has had its last answer.
        is_queued: it counts as one of the queue's.
        is_work: its answer shows that the engine does what it is for.
        deadline: ``time.monotonic()`` seconds at which it is too late even if no process runs, or None.
    """

    is_queued = False
    is_work = True
    deadline: float | None = None

    def __init__(self) -> None:
        self.number = -1
        self.deaths = self._suspicion = 0
        self.is_over = False

    @property
    def is_suspect(self) -> bool:
        """It may be what processes die of, and is to be computed alone."""
        return self._suspicion >= _ALONE

    @property
    def is_given_up(self) -> bool:
        """A process died of it though it was computed alone."""
        return self._suspicion >= _GIVEN_UP

    def died(self, *, hung: bool) -> None:
        """A process that was computing this has died, or hung and was ended."""
        self.deaths += 1
        self._suspicion += _HUNG if hung else 1

    def suspect(self, deaths: int) -> None:
        """So many processes have died computing this and others, alone together."""
        self.deaths, self._suspicion = deaths, _ALONE

    def lost(self, cause: FastInferError) -> EngineDeadError:
        """The error for who waits for it, after the death of a process that another one replaces."""
        if self.is_given_up:
            message = (
                f"The engine died each of the {self.deaths} times that it computed this, the last time alone. "
                f"{cause.message}"
            )
        else:
            message = f"The engine died while it computed this. {cause.message}"
        error = EngineDeadError(message, hint="Others are not affected: the engine was started again.", restarted=True)
        error.__cause__ = cause.__cause__ or cause
        return error

    @abstractmethod
    def prepare(self) -> bool:
        """Get ready to be sent; False where that has to wait for the end of others. Once it was True it stays so."""

    @abstractmethod
    def message(self, process: EngineProcess) -> bytes:
        """What this process is sent."""

    @abstractmethod
    def take(self, body: dict[str, Any], blob: bytes) -> bool:
        """An answer; returns whether it is the last one."""

    @property
    @abstractmethod
    def is_repeatable(self) -> bool:
        """Nobody has seen any of its results, so that it may be computed once more."""

    def split(self) -> Sequence[Request]:
        """What it consists of, to find out what of it a process dies of; nothing where that is one thing.

        It is over then, and its answers are theirs.
        """
        return ()

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """There will be no answer."""

    @abstractmethod
    def release(self) -> None:
        """It is over, in whatever way: give back what it holds. Called once."""
