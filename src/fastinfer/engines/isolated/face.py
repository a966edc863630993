"""What both kinds of engines in processes of their own have in common, as callers hold them."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from fastinfer.engines.isolated.memory import Arena
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.supervisor import Patience, Supervisor
from fastinfer.engines.lifeline import finish_closing

__all__ = ["IsolatedEngine"]


class IsolatedEngine:
    """An engine in another process; one that is dropped is collected, and its process ended by that.

    Args:
        opener: opens the engine, over there.
        memory: what both processes see; closed with the engine.
        patience: how long things may take.
    """

    def __init__(self, opener: Opener, memory: tuple[Arena, ...], patience: Patience | None) -> None:
        self._patience = patience or Patience()
        self._supervisor = Supervisor(opener, tuple(arena.descriptor for arena in memory), self._patience)
        self._end = partial(_close, self._supervisor, memory)
        self._finalizer = weakref.finalize(self, finish_closing, self._end)

    def _start(self) -> dict[str, Any]:
        """Open the engine, and return what its process says that it is."""
        try:
            self._supervisor.start()
        except BaseException:
            self.close()
            raise
        return self._supervisor.facts

    @property
    def pid(self) -> int | None:
        """The number of its process; None where there is none at the moment."""
        return self._supervisor.pid

    def go_by(self, alias: str) -> None:
        """Be called so in logs."""
        self._supervisor.life.alias = alias
        self._supervisor.stand("alias", {"op": "alias", "alias": alias})

    def limit_steps(self, seconds: float) -> None:
        """Count as hanging where a step takes longer, or the process is silent for longer; it is started again then."""
        self._supervisor.life.step_timeout = seconds
        self._supervisor.stand("steps", {"op": "steps", "seconds": seconds})

    def check_process(self) -> None:
        """Refuse work in another process than the one that made this object; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        self._supervisor.life.check_process()

    def close(self) -> None:
        """Fail what waits with EngineDeadError, end the process. Idempotent, from any thread."""
        self._end()
        self._finalizer.detach()


def _close(supervisor: Supervisor, memory: tuple[Arena, ...]) -> None:
    if not supervisor.life.is_elsewhere:
        supervisor.close()
        for arena in memory:
            arena.close()
