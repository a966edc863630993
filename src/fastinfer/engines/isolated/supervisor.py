"""Keeps a process with an engine running, and what it was asked in order."""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastinfer.engines.isolated.failures import EngineProcessError, read_failure
from fastinfer.engines.isolated.messages import encode
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.process import EngineProcess
from fastinfer.engines.isolated.request import Request
from fastinfer.engines.lifeline import Lifeline, outlive
from fastinfer.errors import EngineDeadError, FastInferError, RequestTimeoutError
from fastinfer.interrupts import Answer, Deferral, answer_of

__all__ = ["Patience", "Supervisor"]

_log = logging.getLogger(__name__)

#: Seconds between looks at deadlines while no process answers, and while one does.
_TICK, _LOOK = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds.

    Attributes:
        load: opening the engine.
        close: the engine's own end, after which its process is ended by force.
        back_off: before each new start after one that answered nothing; after the last of them the engine is dead.
        alone: deaths of a request that was computed alone are not counted among those, as such requests may come in
            clusters; after so many in a row the engine is dead too.
    """

    load: float = 1800.0
    close: float = 30.0
    back_off: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0)
    alone: int = 32


class Supervisor:
    """Runs an engine in a process, starts that again when it dies, and repeats what may be repeated.

    Args:
        opener: the engine.
        descriptors: of the memory that it shares.
        patience: how long things may take.

    Attributes:
        life: whether the engine can still be used.
        facts: what the engine is, as its process said.
    """

    def __init__(self, opener: Opener, descriptors: tuple[int, ...], patience: Patience) -> None:
        self.life = Lifeline()
        self.facts: dict[str, Any] = {}
        self._opener, self._descriptors, self._patience = opener, descriptors, patience
        self._condition = threading.Condition()
        self._numbers = itertools.count()
        self._requests: dict[int, Request] = {}
        self._unsent: deque[Request] = deque()
        self._sent: dict[int, Request] = {}
        #: Numbers of requests that nobody waits for; the garbage collector may add one in any thread.
        self._cancelled: deque[int] = deque()
        #: What every new process is told first.
        self._standing: dict[str, bytes] = {}
        self._process: EngineProcess | None = None
        self._is_ready = self._hung = self._died_alone = False
        self._answered = self._queued = 0
        self._started: Answer[None] = Answer()
        #: Is called with what the process reports of itself.
        self.report: weakref.WeakMethod[Any] | None = None
        self._thread = threading.Thread(target=self._run, name="fastinfer-engine", daemon=True)

    def start(self) -> None:
        """Open the engine; waits until it can be used.

        Raises:
            FastInferError: what opening it raised in its process.
            EngineDeadError: the process died of it.
            RequestTimeoutError: it took longer than it may.
        """
        self._thread.start()
        try:
            answer_of(self._started)
        except BaseException:
            self.close()
            raise

    @property
    def is_running(self) -> bool:
        """A process answers now."""
        return self._is_ready

    @property
    def pid(self) -> int | None:
        """The process's number; None where there is none now."""
        process = self._process
        return None if process is None else process.pid

    def ask(self, request: Request) -> None:
        """Send a request, now or when there is a process again.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        self.life.check_process()
        self.life.check()
        request.prepare()
        with Deferral(), self._condition:
            try:
                self.life.check()
            except BaseException:
                request.is_over = True
                request.release()
                raise
            request.number = next(self._numbers)
            self._requests[request.number] = request
            self._unsent.append(request)
            self._queued += request.is_queued
            self._dispatch()

    def cancel(self, number: int) -> None:
        """Let a request end soon. Takes no lock."""
        self._cancelled.append(number)
        process = self._process
        if process is not None:
            process.wake()

    def stand(self, name: str, body: dict[str, Any]) -> None:
        """Tell the process something without an answer, and every later process too; replaces what had this name."""
        data = encode(body)
        with Deferral(), self._condition:
            self._standing[name] = data
            if self._is_ready and self._process is not None:
                self._process.send(data)

    def wait_for_end(self, most: int, deadline: float | None) -> bool:
        """Wait until fewer than ``most`` requests are in the queue; False where the deadline passes first."""
        with Deferral() as interrupts, self._condition:
            while self._queued >= most:
                self.life.check()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._condition.wait(interrupts.at_most(left))
                interrupts.heed()
            self.life.check()
            return True

    @property
    def queued(self) -> int:
        """Requests in the queue that have no last answer yet."""
        return self._queued

    def close(self) -> None:
        """End the process and fail what waits. Idempotent, from any thread."""
        if self.life.is_elsewhere:
            return
        with Deferral(), self._condition:
            self.life.closed = True
            self._condition.notify_all()
        process = self._process
        if process is not None:
            process.wake()
        if threading.current_thread() is self._thread:
            outlive(self._thread)
        elif self._thread.ident is not None:
            self._thread.join()

    # The thread.

    def _run(self) -> None:
        fruitless = alone = 0
        cause: BaseException | None = None
        try:
            while not self.life.closed and self.life.dead is None:
                self._answered, self._died_alone = 0, False
                cause = self._live()
                if cause is None:
                    break
                if not self._started.done():
                    self._started.set_exception(cause)
                    self.life.dead = cause
                    break
                if self._answered:
                    fruitless = alone = 0
                elif self._died_alone:
                    alone += 1
                else:
                    fruitless += 1
                if fruitless >= len(self._patience.back_off) or alone >= self._patience.alone:
                    _log.error("%s: its process died %d times in a row.", self.life.alias, fruitless + alone)
                    self.life.dead = cause
                    break
                _log.warning("%s: starting again. %s", self.life.alias, cause)
                self._rest(self._patience.back_off[fruitless])
        except BaseException as error:  # noqa: BLE001  nobody may be left waiting, whatever happened
            _log.exception("%s: the engine has died.", self.life.alias)
            self.life.dead = cause = error
        finally:
            self._end(None if self.life.dead is None else cause)

    def _live(self) -> FastInferError | None:
        """The life of one process: what it died of, or None where the engine was closed."""
        try:
            process = EngineProcess(self._descriptors, self._opener.first)
        except FastInferError as error:
            return error
        self._process, self._hung = process, False
        patience = self._patience.close
        try:
            why = self._attend(process)
            if why is not None:
                patience = 1.0
        except BaseException:
            patience = 0.0
            raise
        finally:
            with self._condition:
                self._is_ready = False
                self._process = None
            if self.life.closed:
                self._fail_all(None)
                self._hear_out(process)
            ended = process.end(patience)
        if why is None:
            return None
        died_of = why if isinstance(why, FastInferError) else _dead(why or ended, process)
        return self._bury(died_of, hung=self._hung)

    def _attend(self, process: EngineProcess) -> FastInferError | str | None:
        """Serve a process until it ends; why, "" where its end says it, None where the engine was closed."""
        begun = heard = time.monotonic()
        process.send(encode({"op": "open", "log_level": _log_level()}, pickle.dumps(self._opener)))
        while not self.life.closed:
            self._sort_out_cancelled()
            if not self._is_ready:
                self._expire()
            messages = process.receive(_LOOK if self._is_ready else _TICK)
            if messages is None:
                return ""
            now = time.monotonic()
            heard = now if messages else heard
            for body, blob in messages:
                error = self._take(process, body, blob)
                if error is not None:
                    return error
            if not self._is_ready and now - begun > self._patience.load:
                process.abort()
                return RequestTimeoutError(
                    f"The engine was not open after {self._patience.load:g} s.", hint="Raise load_timeout."
                )
            if self._is_ready and now - heard > self.life.step_timeout:
                process.abort()
                self._hung = True
                return f"was silent for {self.life.step_timeout:g} s and was ended"
        return None

    def _hear_out(self, process: EngineProcess) -> None:
        """Let an engine that is closed end by itself, and take what it has counted at last."""
        process.hang_up()
        until = time.monotonic() + self._patience.close
        while (left := until - time.monotonic()) > 0:
            messages = process.receive(left)
            if messages is None:
                return
            for body, blob in messages:
                if "id" not in body:
                    self._take(process, body, blob)

    def _take(self, process: EngineProcess, body: dict[str, Any], blob: bytes) -> FastInferError | str | None:
        """One message; returns why the process has to end, if it has to."""
        number = body.get("id")
        if number is not None:
            request = self._sent.get(number)
            if request is not None and request.take(body, blob):
                self._answered += request.is_work
                self._finish(request)
        elif "ready" in body:
            self.facts = body["ready"]
            with self._condition:
                for data in self._standing.values():
                    process.send(data)
                self._is_ready = True
                self._dispatch()
            if not self._started.done():
                self._started.set_result(None)
        elif "failed" in body:
            error = read_failure(body["failed"])
            if isinstance(error, FastInferError):
                return error
            return f"could not open the engine ({type(error).__name__}: {error}) and ended"
        elif "died" in body:
            error = read_failure(body["died"])
            return f"had an engine that died ({error.__cause__ or error}) and was ended"
        elif "overdue" in body:
            sentence, stack = body["overdue"]
            _log.error("%s: %s\n%s", self.life.alias, sentence, stack)
            process.abort()
            self._hung = True
            return f"was ended: {sentence.rstrip('.')}"
        elif "log" in body:
            level, name, text = body["log"]
            logging.getLogger(str(name)).log(int(level), "%s", text)
        elif "report" in body and self.report is not None and (report := self.report()) is not None:
            report(body["report"])
        return None

    def _dispatch(self) -> None:
        """Send what can be sent; with the condition held."""
        process = self._process
        if not self._is_ready or process is None:
            return
        while self._unsent:
            request = self._unsent[0]
            # Who may be what kills the process is computed alone.
            if self._sent and any(r.is_suspect for r in (request, *self._sent.values())):
                return
            if not request.is_over and not request.prepare():
                return
            self._unsent.popleft()
            if not request.is_over:
                self._sent[request.number] = request
                process.send(request.message(process))

    def _finish(self, request: Request) -> None:
        with self._condition:
            if request.is_over:
                return
            request.is_over = True
            self._requests.pop(request.number, None)
            self._sent.pop(request.number, None)
            self._queued -= request.is_queued
            request.release()
            self._dispatch()
            self._condition.notify_all()

    def _sort_out_cancelled(self) -> None:
        while self._cancelled:
            request = self._requests.get(number := self._cancelled.popleft())
            if request is None:
                continue
            with self._condition:
                sent, process = number in self._sent, self._process
            if sent and process is not None:
                process.send(encode({"op": "cancel", "id": number}))
            elif not sent and request.take({"cancelled": True}, b""):
                self._finish(request)

    def _expire(self) -> None:
        """Fail what is too late while no process runs that would do it."""
        now = time.monotonic()
        for request in list(self._requests.values()):
            if request.deadline is not None and request.deadline < now:
                late = RequestTimeoutError(
                    "The request ran out of time while the engine's process was starting.",
                    hint="Raise timeout, or look at why it had to start again.",
                )
                request.fail(late)
                self._finish(request)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.life.closed and (left := until - time.monotonic()) > 0:
            with self._condition:
                self._condition.wait(min(left, _TICK))
            self._sort_out_cancelled()
            self._expire()

    def _bury(self, cause: FastInferError, *, hung: bool) -> FastInferError:
        """Decide what becomes of the requests that a process has left."""
        with self._condition:
            left = sorted(self._sent.values(), key=lambda request: request.number)
            self._sent.clear()
        self._died_alone = len(left) == 1 and left[0].is_suspect
        again: list[Request] = []
        for request in left:
            request.died(hung=hung)
            if request.is_repeatable and not request.is_given_up:
                again.append(request)
            elif request.is_repeatable and (parts := request.split()):
                again += self._replaced(request, parts)
            else:
                request.fail(request.lost(cause))
                self._finish(request)
        with self._condition:
            # The suspects last, so that others are not kept waiting by them.
            waiting = [*self._unsent, *again]
            self._unsent = deque(sorted(waiting, key=lambda r: (r.is_suspect, r.number)))
        return cause

    def _replaced(self, request: Request, parts: Sequence[Request]) -> Sequence[Request]:
        """Its parts, which are computed alone, in place of a request."""
        with self._condition:
            for part in parts:
                part.number = next(self._numbers)
                part.suspect(request.deaths)
                self._requests[part.number] = part
                self._queued += part.is_queued
        self._finish(request)
        return parts

    def _fail_all(self, cause: BaseException | None) -> None:
        with self._condition:
            requests = list(self._requests.values())
        for request in requests:
            error = EngineDeadError(
                "The engine was closed before this request was finished." if cause is None else "The engine has died.",
                hint=None if cause is None else "Create a new one.",
            )
            error.__cause__ = cause
            request.fail(error)
            self._finish(request)

    def _end(self, cause: BaseException | None) -> None:
        self._fail_all(cause)
        if not self._started.done():
            self._started.set_exception(EngineDeadError("The engine was closed while it was opened."))
        with self._condition:
            self._condition.notify_all()


def _log_level() -> int:
    """The lowest level that a logger of this library takes; what it says over there is sorted out here."""
    names = [name for name in logging.Logger.manager.loggerDict if name.split(".")[0] == "fastinfer"]
    return min(logging.getLogger(name).getEffectiveLevel() for name in ("fastinfer", *names))


def _dead(why: str, process: EngineProcess) -> EngineDeadError:
    error = EngineDeadError(f"The engine's process {why}.", hint="Its last lines are in this error's cause.")
    error.__cause__ = EngineProcessError(process.last_lines or "it has written nothing")
    return error
