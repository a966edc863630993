"""A side that runs in a process of its own: the model is loaded there, workloads go in, records come out."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from .workload import Run, Workload

Handler = Callable[[Any], Any]
Opener = Callable[[dict[str, Any]], tuple[dict[str, Any], Handler, Callable[[], None]]]


class Child:
    """A process that loads a model and answers.

    Args:
        opener: called there with ``options``; gives what is to be noted of it (values that JSON can hold), the function
            that answers, and the one that closes. It must import llama_cpp before anything that imports numpy: a
            build with a C++ library of its own crashes otherwise.
        options: plain values.
        limit: seconds that an answer may take, also the first.
    """

    def __init__(self, opener: Opener, options: dict[str, Any], limit: float) -> None:
        self._limit = limit
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, opener, options), daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0
        other_end.close()
        try:
            self.info: dict[str, Any] = self._receive()
        except BaseException:
            self.close()
            raise

    def run(self, workload: Workload) -> Run:
        """Have a workload done."""
        run: Run = self.ask(workload)
        return run

    def ask(self, what: Any) -> Any:
        """Send anything that the handler knows, and wait for the answer."""
        self._pipe.send(what)
        return self._receive()

    def close(self) -> None:
        """Let the process close its model and end."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(15)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        if not self._pipe.poll(self._limit):
            raise RuntimeError(f"no answer from the process of this side in {self._limit:.0f} s")
        try:
            good, value = self._pipe.recv()
        except EOFError:
            self._process.join(10)
            raise RuntimeError(f"the process of this side ended with {self._process.exitcode}") from None
        if not good:
            raise RuntimeError(f"in the process of this side:\n{value}")
        return value


def _serve(pipe: Connection, opener: Opener, options: dict[str, Any]) -> None:
    try:
        info, handle, close = opener(options)
    except Exception:  # noqa: BLE001  sent to the parent
        pipe.send((False, traceback.format_exc()))
        return
    # As plain values: the parent would import whatever else is in it, torch for the kind of its version's string.
    pipe.send((True, json.loads(json.dumps(info))))
    while (what := pipe.recv()) is not None:
        try:
            pipe.send((True, handle(what)))
        except Exception:  # noqa: BLE001  sent to the parent
            pipe.send((False, traceback.format_exc()))
    close()
