"""Requests to the hub: a file's bytes from any place on, and how long to wait where the hub asks for patience."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import sleep
from typing import Any, Final, TypeVar

from fastinfer.models.hub_progress import waiting
from fastinfer.models.hub_refusals import is_offline, status_of

__all__ = ["Patience", "bytes_from", "patiently"]

_log = logging.getLogger(__name__)
_PIECE: Final = 1 << 16  # bytes taken from the network at once; of one that is cut off, nothing is kept
_PARTIAL_CONTENT: Final = 206
_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_WAITS: Final = (1.0, 2.0, 4.0, 8.0)  # seconds, one after each failure; after the last there is one more try
_LONG_WAIT: Final = 4.0  # seconds
_LONGEST_WAIT: Final = 300.0  # seconds; the hub counts requests over five minutes
_RESETS_IN: Final = re.compile(r";\s*t=(\d+)")
#: Where the errors of a connection come from: the HTTP libraries that huggingface_hub's versions use.
_HTTP_LIBRARIES: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"})

_Answer = TypeVar("_Answer")


class Patience:
    """Decides after a failure whether to try again, and waits until then.

    It is tried again after the answers 408, 429, 500, 502, 503 and 504: after the time that the answer names, as with
    429 it does, else after 1, 2, 4 and 8 seconds. Failures are forgotten once something has arrived.

    Args:
        name: what is asked for, for the log.
        connections: try again after failures of a connection too.
    """

    def __init__(self, name: object, *, connections: bool = True) -> None:
        self._name = name
        self._connections = connections
        self._failures = 0

    def something_arrived(self) -> None:
        """Forget the failures so far."""
        self._failures = 0

    def after(self, error: Exception) -> bool:
        """Wait after a failure, if it is one that may pass.

        Args:
            error: the failure.

        Returns:
            Whether to try again.
        """
        status = status_of(error)
        if status not in _TRANSIENT and not (self._connections and status is None and _of_a_connection(error)):
            return False
        if self._failures == len(_WAITS):
            return False
        asked = _asked_for(error)
        wait = _WAITS[self._failures] if asked is None else asked
        if wait > _LONGEST_WAIT:
            return False
        self._failures += 1
        what = type(error).__name__ if status is None else f"HTTP {status}"
        _log.warning("%s: %s; trying again in %g s (%d of %d).", self._name, what, wait, self._failures, len(_WAITS))
        _wait(wait, f"{self._name}: {what}, trying again")
        return True


def patiently(name: object, ask: Callable[[], _Answer]) -> _Answer:
    """An answer of the hub, asked for again after failures that may pass.

    Args:
        name: what is asked for, for the log.
        ask: asks once.

    Raises:
        Exception: what the last ``ask`` raised.
    """
    patience = Patience(name)
    while True:
        try:
            return ask()
        except Exception as error:  # huggingface_hub passes on those of its HTTP library
            if not patience.after(error):
                raise


def bytes_from(url: str, begin: int, end: int) -> Iterator[bytes]:
    """A part of a file, in pieces, of which none is fetched before it is asked for.

    Args:
        url: where the file is.
        begin: the first byte.
        end: the byte after the last. Where the server knows no ranges, all of the file after ``begin`` comes.

    Raises:
        Exception: what huggingface_hub and its HTTP library raise where the file cannot be fetched.
    """
    utilities: Any = import_module("huggingface_hub.utils")
    headers: dict[str, str] = utilities.build_hf_headers()
    headers |= {"Accept-Encoding": "identity", "Range": f"bytes={begin}-{end - 1}"}
    with _answer(url, headers) as (response, body):
        utilities.hf_raise_for_status(response)
        known = 0 if response.status_code == _PARTIAL_CONTENT else begin  # bytes of the answer that are not wanted
        for piece in body:
            new = piece[known:]
            known -= len(piece) - len(new)
            if new:
                yield new


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """The server's answer with its body in pieces, of which none is fetched before it is asked for."""
    from huggingface_hub import constants, get_session

    session: Any = get_session()
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if callable(session.stream):  # HTTPX's, since version 1 of huggingface_hub; Requests' before
        with session.stream("GET", url, headers=headers, timeout=timeout) as response:
            yield response, response.iter_bytes()
    else:
        with session.get(url, headers=headers, timeout=timeout, stream=True) as response:
            yield response, response.iter_content(_PIECE)


def _wait(seconds: float, why: str) -> None:
    """Let time pass; a long wait is shown, so that nobody thinks that the program hangs."""
    with waiting(why, seconds, shown=seconds >= _LONG_WAIT) as bar:
        while seconds > 0:
            step = min(seconds, 1.0)
            sleep(step)
            bar.update(step)
            seconds -= step


def _of_a_connection(error: Exception) -> bool:
    library = type(error).__module__.partition(".")[0]
    if is_offline(error):
        return False
    return library in _HTTP_LIBRARIES or isinstance(error, ConnectionError | TimeoutError)


def _asked_for(error: Exception) -> float | None:
    """Seconds after which the hub wants to be asked again, or None where it does not say."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    if re.fullmatch(r"\d+", after := headers.get("Retry-After", "").strip()):
        return float(after)
    resets = _RESETS_IN.search(headers.get("RateLimit", ""))
    return float(resets[1]) if resets else None
