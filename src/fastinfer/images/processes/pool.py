"""The caller's side: processes that are started when there is work, used by one thread at a time, and replaced."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import weakref
from typing import IO, Final

from PIL import Image

from fastinfer.child_process import calling
from fastinfer.errors import EngineDeadError, EngineError, ImageDecodeError
from fastinfer.images.decoder import Decoder
from fastinfer.images.prepared import EngineImage
from fastinfer.images.source import ImageSource, SourceName, is_array, read_bytes
from fastinfer.interrupts import Deferral

from .wire import DecoderLostError, Request, read_ready, read_reply, write_request

__all__ = ["DecodeProcesses"]

#: Seconds that a process is given to end by itself.
_PATIENCE: Final = 5.0
#: Bytes that a pipe holds where the system lets us choose: a photograph, so that neither side waits in the middle.
_PIPE_BYTES: Final = 1 << 20
#: Bytes of an image that are allowed whatever max_pixels is: it limits what is read, and tiles may be enlarged.
_ALWAYS_ALLOWED: Final = 1 << 28


class DecodeProcesses:
    """A :class:`~fastinfer.images.decoder.Decoder` in other processes; they end with this object, or this process.

    Args:
        decoder: what they do.
        most: the most processes, at least 1; callers beyond that wait.
    """

    def __init__(self, decoder: Decoder, most: int) -> None:
        self._decoder = decoder
        self._first = pickle.dumps(decoder)
        self._most_bytes = max(6 * decoder.max_pixels, _ALWAYS_ALLOWED)
        self._slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(most):
            self._slots.put(None)
        self._children: set[_Child] = set()
        self._closed = False
        self._finalizer = weakref.finalize(self, _end_all, self._children)

    def load(self, source: ImageSource) -> EngineImage:
        """One image from any source, with the same result and the same errors as the decoder's own method.

        What needs no decoding (Pillow images and arrays) stays in this process.

        Raises:
            ImageDecodeError: as there; also where the process that decoded the image has crashed.
            EngineDeadError: this was closed.
            EngineError: no process can be started.
        """
        if isinstance(source, Image.Image) or is_array(source):
            return self._decoder.load(source)
        name = SourceName(source)
        reply = self._ask(Request(read_bytes(source, name), str(name)))
        if isinstance(reply, ImageDecodeError):
            raise reply
        return reply

    def close(self) -> None:
        """End the processes; whoever still waits for one gets EngineDeadError. Idempotent."""
        self._closed = True
        self._finalizer()

    def _ask(self, request: Request) -> EngineImage | ImageDecodeError:
        with Deferral() as interrupts:  # a place that is taken is given back, whenever Ctrl-C comes
            return self._ask_one(self._place(interrupts), request, interrupts)

    def _place(self, interrupts: Deferral) -> _Child | None:
        while True:
            try:
                return self._slots.get(timeout=interrupts.at_most(None))
            except queue.Empty:
                interrupts.heed()

    def _ask_one(self, child: _Child | None, request: Request, interrupts: Deferral) -> EngineImage | ImageDecodeError:
        try:
            with interrupts.lifted():
                child = child or self._start()
                # Asked when the process is among those that closing ends: one of the two sees the other.
                if self._closed:
                    raise EngineDeadError("The decoding processes were closed before this image was read.")
                return child.ask(request, self._most_bytes)
        except BaseException as error:
            # Not used again, also after an interrupt: what it still sends would be taken for the next image.
            broken, child = child, None
            if broken is None:
                raise
            self._children.discard(broken)
            if not isinstance(error, (DecoderLostError, OSError, ValueError)):
                broken.end(0.0)
                raise
            ending = broken.end()
            if self._closed:
                raise EngineDeadError("The decoding processes were closed while this image was read.") from error
            raise ImageDecodeError(
                f"Cannot read {request.name}: the process that decoded it {ending}.",
                hint="The file may be damaged on purpose, or memory short. Other images are not affected.",
            ) from error
        finally:
            self._slots.put(child)

    def _start(self) -> _Child:
        try:
            child = _Child()
        except OSError as error:
            raise _not_started(str(error)) from error
        try:
            child.begin(self._first)
        except (DecoderLostError, OSError) as error:
            raise _not_started(f"it {child.end()}") from error
        except BaseException:
            child.end(0.0)
            raise
        self._children.add(child)
        return child


def _not_started(why: str) -> EngineError:
    return EngineError(f"No decoding process can be started: {why}.", hint="Decode in threads: decode_in='threads'.")


def _end_all(children: set[_Child]) -> None:
    for child in tuple(children):
        child.hang_up()  # so that they end side by side
    while children:
        children.pop().end()


class _Child:
    """One process."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            calling("fastinfer.images.processes.child", "main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=1 << 17,
            # Each decodes in one thread; numpy's libraries would start more at once, for nothing but memory.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # an interrupt at the terminal is not for it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._replies: IO[bytes] = self._process.stdout
        for stream in (self._requests, self._replies):
            _widen(stream)

    def begin(self, decoder: bytes) -> None:
        """Send it what it is to do, and wait until it has understood."""
        self._requests.write(decoder)
        self._requests.flush()
        read_ready(self._replies)

    def ask(self, request: Request, most_bytes: int) -> EngineImage | ImageDecodeError:
        write_request(self._requests, request)
        return read_reply(self._replies, most_bytes)

    def hang_up(self) -> None:
        """Let it end by itself; in another process than its parent's, nothing."""
        if os.getpid() == self._owner:
            with contextlib.suppress(OSError):
                self._requests.close()

    def end(self, patience: float = _PATIENCE) -> str:
        """End it if it runs, after so many seconds by force, and say how it ended."""
        if os.getpid() != self._owner:
            return "belongs to another process"
        self.hang_up()
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._replies.close()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"ended with signal {signal.Signals(-code).name}"
        return f"ended with code {code}"


def _widen(stream: IO[bytes]) -> None:
    """Let a pipe hold more, on Linux, as far as its limits allow."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
