"""Questions to an engine's process that are answered at once."""

from __future__ import annotations

from concurrent.futures import InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from fastinfer.engines.isolated.failures import read_failure
from fastinfer.engines.isolated.messages import encode
from fastinfer.engines.isolated.process import EngineProcess
from fastinfer.engines.isolated.request import Request
from fastinfer.engines.isolated.supervisor import Supervisor
from fastinfer.errors import RequestTimeoutError
from fastinfer.interrupts import Answer, answer_of

__all__ = ["call"]


class _Call(Request):
    is_work = False

    def __init__(self, body: dict[str, Any], blob: bytes) -> None:
        super().__init__()
        self._body, self._blob = body, blob
        self.future: Answer[tuple[Any, bytes]] = Answer()

    def prepare(self) -> bool:
        return True

    def message(self, process: EngineProcess) -> bytes:
        return encode({**self._body, "id": self.number}, self._blob)

    def take(self, body: dict[str, Any], blob: bytes) -> bool:
        if "error" in body:
            self.fail(read_failure(body["error"]))
        elif "cancelled" not in body:
            self.future.set_result((body.get("result"), blob))
        return True

    @property
    def is_repeatable(self) -> bool:
        return True

    def fail(self, error: Exception) -> None:
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return

    def release(self) -> None:
        """Nothing is held."""


def call(supervisor: Supervisor, name: str, *arguments: Any, blob: bytes = b"", timeout: float) -> tuple[Any, bytes]:
    """What a function of the process's side returns, and bytes with it.

    Args:
        supervisor: whom to ask.
        name: the function.
        arguments: JSON values.
        blob: bytes with them.
        timeout: seconds to wait, for a process that is starting too.

    Raises:
        RequestTimeoutError: there was no answer in that time.
        EngineDeadError: the engine was closed, has died, or belongs to another process.
        FastInferError: what the function raised.
    """
    asked = _Call({"op": "call", "name": name, "arguments": arguments}, blob)
    supervisor.ask(asked)
    try:
        return answer_of(asked.future, timeout)
    except FutureTimeoutError as error:
        supervisor.cancel(asked.number)
        if isinstance(error, RequestTimeoutError):
            raise
        state = "did not answer" if supervisor.is_running else "was not open"
        raise RequestTimeoutError(f"The engine's process {state} within {timeout:g} s.") from error
    except BaseException:
        supervisor.cancel(asked.number)
        raise
