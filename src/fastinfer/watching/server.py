"""The metrics of this process over HTTP, for Prometheus to fetch."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from fastinfer.errors import FastInferError
from fastinfer.optional import require
from fastinfer.watching.collector import Collector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["MetricsServer", "serve_metrics"]


class MetricsServer:
    """A page of metrics at :attr:`url`, served by a thread until :meth:`close`. Get one from ``serve_metrics``.

    A context manager. It needs no variable to live on: it serves until it is closed or the process ends.

    Attributes:
        host: the address that it listens on.
        port: the port, also where 0 was asked for.
    """

    def __init__(self, server: Any, thread: threading.Thread, host: str) -> None:
        self._server, self._thread = server, thread
        self.host, self.port = host, int(server.server_port)
        self._closed = False

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop serving and free the port. Idempotent, from any thread."""
        with _lock:
            _servers.pop((self.host, self.port), None)
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer {'closed' if self._closed else self.url}>"


_servers: dict[tuple[str, int], MetricsServer] = {}
_lock = threading.Lock()


def serve_metrics(port: int = 9400, host: str = "127.0.0.1") -> MetricsServer:
    """Serve the metrics of every engine in this process, for Prometheus.

    Engines may be opened before and after. Called again with the same port and host, as by a notebook's cell that is
    run twice, it returns the server that is there.

    Args:
        port: 1 to 65535; 0 takes a free one.
        host: the address to listen on. By default only this machine can ask; ``"0.0.0.0"`` lets everyone who reaches
            it, and the page has no password.

    Raises:
        FastInferError: the port is taken or not allowed, there is no such address, or prometheus_client is not
            installed.
    """
    library = require("prometheus_client", extra="metrics", what="A page of metrics")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise FastInferError(f"A port is a whole number from 0 to 65535, not {port!r}.", hint="9400 is the usual one.")
    with _lock:
        if (host, port) in _servers:
            return _servers[host, port]
        registry = library.CollectorRegistry()
        registry.register(Collector())
        library.ProcessCollector(registry=registry)
        library.PlatformCollector(registry=registry)
        try:
            server, thread = library.start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise _refused(error, host, port) from error
        server.set_app(_as_text(server.get_app()))
        made = MetricsServer(server, thread, host)
        _servers[host, made.port] = made
        return made


def _as_text(page: WSGIApplication) -> WSGIApplication:
    """A page in the classic text format, whatever the client would rather have.

    prometheus_client 0.26 writes a name with a colon differently in OpenMetrics: as ``llamacpp_requests_processing``
    for a Prometheus that asks for it, and with its colon for others.
    """

    def plain(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ.pop("HTTP_ACCEPT", None)
        return page(environ, start_response)

    return plain


def _refused(error: OSError, host: str, port: int) -> FastInferError:
    if error.errno == errno.EADDRINUSE:
        return FastInferError(
            f"Port {port} of {host} is taken: something listens there already, perhaps another process that serves its "
            "metrics.",
            hint="Pass another port, or port=0 for a free one.",
        )
    if error.errno == errno.EACCES:
        return FastInferError(
            f"This account may not listen on port {port}.", hint="Pass a port above 1023, or port=0 for a free one."
        )
    return FastInferError(
        f"Metrics cannot be served on {host}: {error.strerror or error}.",
        hint="Pass an address of this machine; 127.0.0.1 is always one.",
    )


def _forget() -> None:
    """Let go of the parent's servers in a forked process: their threads are not there, and its ports are not ours."""
    global _lock
    _lock = threading.Lock()
    for server in _servers.values():
        server._closed = True
        server._server.socket.close()
    _servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
