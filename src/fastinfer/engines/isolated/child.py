"""An engine's process: opens the engine that its parent names, and serves that parent until it hangs up."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastinfer.engines import watchdog
from fastinfer.engines.isolated.failures import write_failure
from fastinfer.engines.isolated.messages import Message, MessageReader, encode
from fastinfer.engines.isolated.opener import Opener

if TYPE_CHECKING:
    from fastinfer.engines.isolated.serving import Server

__all__ = ["main"]

#: prctl's PR_SET_PDEATHSIG.
_PDEATHSIG: Final = 1
#: How much rather than its parent the kernel is to end this process where memory runs out; 0 to 1000.
_OOM_SCORE: Final = 500
#: Seconds between signs of life.
_BEAT: Final = 1.0
_READ: Final = 1 << 18


def main(parent: str, connection: str, first: str, *descriptors: str) -> None:
    """Serve the process that started this one.

    Args:
        parent: its number.
        connection: descriptor of the socket to it.
        first: modules to import before all others, with spaces between.
        descriptors: of the memory that both see: images, and for classification also scores.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is that process's business
    faulthandler.enable()  # a native crash says where it was
    _end_with(int(parent))
    _be_ended_first()
    for name in first.split():
        with contextlib.suppress(ImportError):  # whoever needs it says so better
            import_module(name)
    with socket.socket(fileno=int(connection)) as ours:
        sender = Sender(ours)
        try:
            _serve(_messages(ours), sender, [int(d) for d in descriptors])
        except ConnectionError:
            pass  # that process is gone
        finally:
            sender.close()
            # Libraries' own ends have nothing to do any more, and may hang.
            sys.stderr.flush()
            os._exit(0)


class Sender:
    """Sends messages, in the order in which each thread gave them, and lets nobody wait.

    Who gives one sends it, which is a thread less to wake for every answer. A thread of its own sends what does not go
    at once, and what is given while somebody sends: by another thread, or by the garbage collector in the midst of it.

    Args:
        connection: where to.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._left: deque[bytes] = deque()
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fastinfer-engine-send", daemon=True)
        self._thread.start()

    def send(self, body: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message; safe from any thread."""
        self._left.append(encode(body, blob))
        if self._turn.acquire(blocking=False):
            try:
                self._flush(socket.MSG_DONTWAIT)
            finally:
                self._turn.release()
        if self._left:
            self._wakes.put(True)

    def close(self) -> None:
        """Send what is left."""
        self._wakes.put(False)
        self._thread.join(5.0)

    def _run(self) -> None:
        going = True
        while going:
            going = self._wakes.get()
            with self._turn:
                self._flush(0)

    def _flush(self, flags: int) -> None:
        while self._left:
            data = self._left.popleft()
            try:
                data = data[self._connection.send(data, flags) :]
            except BlockingIOError:
                pass
            except OSError:
                continue  # nobody listens any more, as whoever reads will notice too
            if data:
                self._left.appendleft(data)
                if flags:
                    return


class _Forward(logging.Handler):
    """Hands log records on to the parent's loggers."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sender.send({"log": [record.levelno, record.name, self.format(record)]})
        except Exception:  # noqa: BLE001  as in every handler
            self.handleError(record)


def _serve(messages: Iterator[Message], sender: Sender, descriptors: list[int]) -> None:
    wishes, pickled = next(messages)
    logging.getLogger().addHandler(_Forward(sender))
    logging.getLogger().setLevel(wishes["log_level"])
    beat = _Beat(sender)
    # Where a step hangs the parent is told, which ends this process and starts another one.
    watchdog.report_to(lambda overdue: sender.send({"overdue": list(overdue)}))
    # The parent's own object, and no other's: it comes through a socket that nobody else has.
    opener: Opener = pickle.loads(pickled)
    try:
        engine = opener.open()
    except Exception as error:  # noqa: BLE001  whoever opens the engine gets it, whatever it is
        sender.send({"failed": write_failure(error)})
        return
    # Only now, as they import numpy; see Opener.first.
    from fastinfer.engines.isolated.memory import SharedView
    from fastinfer.engines.isolated.serving import ChatServer, ClassifyServer

    views = [SharedView(descriptor, writable=number > 0) for number, descriptor in enumerate(descriptors)]
    server: Server[Any] = (
        ChatServer(engine, views[0], sender.send)
        if opener.kind == "chat"
        else ClassifyServer(engine, views[0], views[1], sender.send)
    )
    beat.server = server
    try:
        sender.send({"ready": server.facts()})
        for body, blob in messages:
            server.take(body, blob)
    finally:
        engine.close()
        beat.report()


class _Beat:
    """Signs of life, with what the engine has counted."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.server: Server[Any] | None = None
        threading.Thread(target=self._run, name="fastinfer-engine-beat", daemon=True).start()

    def report(self) -> None:
        report = None if self.server is None else self.server.report()
        self._sender.send({"beat": True} if report is None else {"report": report})

    def _run(self) -> None:
        while True:
            time.sleep(_BEAT)
            self.report()


def _messages(connection: socket.socket) -> Iterator[Message]:
    reader = MessageReader()
    while data := connection.recv(_READ):
        yield from reader.feed(data)


def _end_with(parent: int) -> None:
    """Have the kernel end this process with the thread that started it; on Linux, where it can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before that


def _be_ended_first() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
