"""Whether an engine gets a process of its own, and how long it may take for what it does."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Final

from fastinfer.engines.isolated.supervisor import Patience
from fastinfer.errors import EngineUnavailableError, PresetError

__all__ = ["IN_PROCESS_OF_ITS_OWN", "Keeping", "in_notebook", "keeping"]

#: How the provenance says it.
IN_PROCESS_OF_ITS_OWN: Final = ", in a process of its own"
#: Seconds that a step may take by default. On a GPU it takes seconds at most; a CPU may read a long prompt with a large
#: model for the better part of an hour.
_STEP_ON_GPU: Final = 600.0
_STEP_ON_CPU: Final = 3600.0
_LOAD: Final = 1800.0
#: Decides where the caller leaves it open.
_VARIABLE: Final = "FASTINFER_ISOLATE"
_VALUES: Final = {"": None, "0": False, "1": True}


@dataclass(frozen=True, slots=True)
class Keeping:
    """How an engine is kept.

    Attributes:
        isolate: in a process of its own.
        step_timeout: seconds after which a step counts as hanging.
        load_timeout: seconds that opening it may take there.
    """

    isolate: bool
    step_timeout: float
    load_timeout: float

    @property
    def patience(self) -> Patience:
        """For the engine's process."""
        return Patience(load=self.load_timeout)


def keeping(
    isolate: bool | None, step_timeout: float | None, load_timeout: float | None, *, on_gpu: bool, by_default: bool
) -> Keeping:
    """What the caller asked for, checked, with what is left out filled in.

    Args:
        isolate: as asked for; None leaves it to the environment variable FASTINFER_ISOLATE, which is 1 or 0, and
            without that to ``by_default``.
        step_timeout, load_timeout: seconds; None takes the default.
        on_gpu: the engine computes on a GPU.
        by_default: isolate.

    Raises:
        PresetError: a time is no positive number, ``load_timeout`` is for an engine in this process, or the variable is
            neither 1 nor 0.
        EngineUnavailableError: ``isolate``, on a system where it is not supported.
    """
    if isolate is not None and not isinstance(isolate, bool):
        raise PresetError(f"isolate is {isolate!r}.", hint="It is True, False, or None for the default.")
    for name, seconds in (("step_timeout", step_timeout), ("load_timeout", load_timeout)):
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf
        ):
            raise PresetError(f"{name} is {seconds!r}.", hint="It is a number of seconds above 0.")
    isolate = _from_environment() if isolate is None else isolate
    windows = sys.platform == "win32"
    if isolate and windows:
        raise EngineUnavailableError(
            "isolate=True is not supported on Windows: it hands sockets and memory on to a child as POSIX has them.",
            hint="Leave it out, or use Linux or macOS.",
        )
    chosen = (by_default and not windows) if isolate is None else isolate
    if load_timeout is not None and not chosen:
        raise PresetError(
            "load_timeout is for an engine in a process of its own: a load in this one cannot be ended.",
            hint="Add isolate=True, or leave it out.",
        )
    return Keeping(chosen, step_timeout or (_STEP_ON_GPU if on_gpu else _STEP_ON_CPU), load_timeout or _LOAD)


def _from_environment() -> bool | None:
    value = os.environ.get(_VARIABLE, "")
    if value not in _VALUES:
        raise PresetError(f"{_VARIABLE} is {value!r}.", hint="It is 1, 0, or not set.")
    return _VALUES[value]


def in_notebook() -> bool:
    """This process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
