"""The engines that are open in this process, by the names they go by, and what those before them have counted."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Union

from fastinfer.engines.tally import absorb
from fastinfer.errors import FastInferError
from fastinfer.interrupts import undisturbed
from fastinfer.provenance import Provenance

if TYPE_CHECKING:
    from fastinfer.classify.tally import ImageTally
    from fastinfer.engines.chat import ChatEngine
    from fastinfer.engines.llama.chat.counters import Counters

__all__ = ["Kind", "Tally", "Watched", "enrol", "named", "watched"]

_log = logging.getLogger(__name__)

Kind = Literal["classify", "chat"]
Tally = Union["ImageTally", "Counters"]


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """An engine that is open.

    Attributes:
        alias: the name it goes by.
        kind: what it does.
        provenance: what it is.
        tally: what it has done; still there when the engine is gone.
        chat: the engine itself where it tells more, as long as somebody uses it.
    """

    alias: str
    kind: Kind
    provenance: Provenance
    tally: Tally
    chat: weakref.ref[ChatEngine] | None = None


class _Roll:
    """Names that are taken, open engines, and the sums of closed ones.

    Sums are kept by alias for as long as the process lives, so that a counter never falls: an engine that is opened
    under the name of a closed one goes on from there.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: in a forked process none of the engines exist, and the lock may be held for ever."""
        # The garbage collector may retire an engine in a thread that is in here already.
        self._lock = threading.RLock()
        self._reserved: set[str] = set()
        self._open: dict[str, Watched] = {}
        self._closed: dict[tuple[str, Kind], Tally] = {}

    def reserve(self, alias: str | None, default: str) -> str:
        with self._lock:
            taken = self._reserved.union(self._open)
            if alias is None:
                alias, number = default, 2
                while alias in taken:
                    alias, number = f"{default}-{number}", number + 1
            elif alias in taken:
                raise FastInferError(
                    f"An open engine has the alias {alias!r} already.",
                    hint="Close that engine first, choose another alias, or leave it out to have one numbered.",
                )
            self._reserved.add(alias)
            return alias

    def release(self, alias: str) -> None:
        with self._lock:
            self._reserved.discard(alias)

    def enter(self, engine: Watched) -> None:
        with self._lock:
            self._reserved.discard(engine.alias)
            self._open[engine.alias] = engine

    def retire(self, engine: Watched) -> None:
        with self._lock:
            if self._open.get(engine.alias) is engine:
                key = engine.alias, engine.kind
                self._closed[key] = absorb(self._closed.get(key) or type(engine.tally)(), engine.tally)
                del self._open[engine.alias]
        _log.info("%s: closed.", engine.alias)

    def read(self) -> tuple[list[Watched], dict[tuple[str, Kind], Tally]]:
        """Open engines, and fresh sums by alias and kind of what they and closed ones have done."""
        with self._lock:
            engines = list(self._open.values())
            sums = {key: absorb(type(tally)(), tally) for key, tally in self._closed.items()}
            for engine in engines:
                key = engine.alias, engine.kind
                sums[key] = absorb(sums.get(key) or type(engine.tally)(), engine.tally)
        return engines, sums


_roll = _Roll()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_roll.forget)


@contextmanager
def named(alias: str | None, default: str) -> Iterator[str]:
    """The name for an engine that is opened within the block; free again where that fails.

    Args:
        alias: the name that was asked for; None takes the default.
        default: the name of the preset. Where an open engine has it, the new one gets the first of ``default-2``,
            ``default-3`` ... that is free.

    Raises:
        FastInferError: the alias is no name, or an open engine of this process has it.
    """
    if alias is not None and (not isinstance(alias, str) or not alias.strip()):
        raise FastInferError(f"An alias is a name for metrics and logs, not {alias!r}.", hint="Pass a short string.")
    name = _roll.reserve(alias, default)
    try:
        yield name
    except BaseException:
        _roll.release(name)
        raise


def enrol(owner: object, engine: Watched) -> Callable[[], object]:
    """Watch an engine from now on, until its owner is closed or collected.

    Args:
        owner: what users hold; not kept alive by this.
        engine: what is to be told of it.

    Returns:
        what to call when the owner is closed: its name is free then. Idempotent.
    """
    _roll.enter(engine)
    ran = engine.provenance
    _log.info("%s: opened, %s on %s, %s.", engine.alias, ran.model, ran.device, ran.engine)
    retire = weakref.finalize(owner, undisturbed, partial(_roll.retire, engine))
    retire.atexit = False
    return retire


def watched() -> tuple[list[Watched], dict[tuple[str, Kind], Tally]]:
    """The engines that are open in this process, and sums of what engines have done by their alias and kind.

    The sums are of open and closed engines together, and the caller's own.
    """
    return _roll.read()
