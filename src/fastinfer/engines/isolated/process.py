"""One process with an engine in it, as its parent sees it."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections import deque
from typing import IO, Final

from fastinfer.child_process import calling
from fastinfer.engines.isolated.messages import DamagedStreamError, Message, MessageReader
from fastinfer.errors import EngineUnavailableError

__all__ = ["EngineProcess"]

_log = logging.getLogger(__name__)

#: Lines of what the process has written that are kept, and characters of each.
_LINES: Final = 40
_LINE_LENGTH: Final = 400
#: Bytes that are read at once.
_READ: Final = 1 << 18
#: Seconds that the process gets to write its last words, once it was told to.
_LAST_WORDS: Final = 5.0


class EngineProcess:
    """A child that runs :func:`fastinfer.engines.isolated.child.main`.

    On Linux it ends with the thread that makes this object, whatever ends that. All methods are for that thread, but
    for :meth:`send` and :meth:`wake`, which are for all.

    Args:
        descriptors: of the memory that it shares, to be inherited.
        first: modules that it imports before all others.

    Attributes:
        known: what its owner has told it already.

    Raises:
        EngineUnavailableError: it cannot be started.
    """

    def __init__(self, descriptors: tuple[int, ...], first: tuple[str, ...] = ()) -> None:
        self.known: set[int] = set()
        self._reader = MessageReader()
        self._lock = threading.Lock()
        self._pending: deque[memoryview] = deque()
        self._lines: deque[str] = deque(maxlen=_LINES)
        ours, theirs = socket.socketpair()
        self._woken, self._waker = socket.socketpair()
        self._socket = ours
        for end in (ours, self._woken, self._waker):
            end.setblocking(False)
        try:
            self._process = subprocess.Popen(
                calling(
                    "fastinfer.engines.isolated.child",
                    "main",
                    *map(str, (os.getpid(), theirs.fileno(), " ".join(first), *descriptors)),
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,  # an interrupt at the terminal is not for it
            )
        except OSError as error:
            self._close()
            raise EngineUnavailableError(
                f"No process can be started for the engine: {error}.", hint="Open it with isolate=False."
            ) from error
        finally:
            theirs.close()
        self._selector = selectors.DefaultSelector()
        self._selector.register(ours, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        assert self._process.stdout is not None
        self._listener = threading.Thread(
            target=self._listen, args=(self._process.stdout,), name="fastinfer-engine-log", daemon=True
        )
        self._listener.start()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def send(self, data: bytes) -> None:
        """Send messages. Never waits: what does not go at once goes while :meth:`receive` runs."""
        with self._lock:
            rest = memoryview(data)
            if not self._pending:
                try:
                    rest = rest[self._socket.send(rest) :]
                except BlockingIOError:
                    pass
                except OSError:
                    return  # it has died, which whoever receives will notice
            if rest:
                self._pending.append(rest)
                self.wake()

    def wake(self) -> None:
        """Let :meth:`receive` return. Takes no lock."""
        with contextlib.suppress(OSError):  # full, so that it is awake; or closed
            self._waker.send(b"\0")

    def receive(self, timeout: float) -> list[Message] | None:
        """What came; waits for it, at most so many seconds. None once nothing can come any more."""
        with self._lock:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._pending else 0)
        self._selector.modify(self._socket, wanted)
        messages: list[Message] = []
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._woken:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(_READ)
                continue
            try:
                if events & selectors.EVENT_WRITE:
                    self._flush()
                if events & selectors.EVENT_READ:
                    data = self._socket.recv(_READ)
                    if not data:
                        return None
                    messages += self._reader.feed(data)
            except BlockingIOError:
                continue
            except (OSError, DamagedStreamError) as error:
                self._lines.append(f"(what came from the process broke off: {error})")
                return None
        return messages

    def abort(self) -> None:
        """End it, with last words that say where each of its threads stands."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS)

    def hang_up(self) -> None:
        """Let it end by itself; what it still says can be received."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def end(self, patience: float) -> str:
        """Let it end by itself, after so many seconds by force, free everything, and say how it ended."""
        self.hang_up()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        self._listener.join(1.0)
        self._selector.close()
        self._close()
        if code >= 0:
            return f"ended with code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return f"ended with signal {-code}"
        likely = ", as the kernel sends it where memory runs out" if name == "SIGKILL" else ""
        return f"ended with signal {name}{likely}"

    @property
    def last_lines(self) -> str:
        """The last of what it has written to standard output and standard error."""
        return "\n".join(self._lines)

    def _flush(self) -> None:
        with self._lock:
            while self._pending:
                rest = self._pending[0]
                rest = rest[self._socket.send(rest) :]
                if rest:
                    self._pending[0] = rest
                    return
                self._pending.popleft()

    def _listen(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()[:_LINE_LENGTH]
                if text:
                    self._lines.append(text)
                    _log.debug("%d: %s", self._process.pid, text)

    def _close(self) -> None:
        for end in (self._socket, self._woken, self._waker):
            end.close()
