"""Metrics over HTTP."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

import fastinfer
from fastinfer.errors import FastInferError
from forks import forks
from metrics_page import read

parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra metrics")


OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"


def get(url: str) -> str:
    """The page, as a Prometheus asks for it."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": OPENMETRICS}), timeout=10) as answer:
        return answer.read().decode()


def test_the_page_tells_of_engines_opened_before_and_after_and_of_the_process(open_chat: Callable[..., Any], chat: Any):
    with fastinfer.serve_metrics(0) as server, open_chat(alias="later"):
        told = read(get(server.url))
    assert told["fastinfer:slots", "talker"] == told["fastinfer:slots", "later"] == 2
    assert told[("process_resident_memory_bytes",)] > 1e6


def test_every_metric_is_explained_in_a_sentence_under_the_name_that_it_has(chat: Any):
    with fastinfer.serve_metrics(0) as server:
        families = {f.name: f for f in parser.text_string_to_metric_families(get(server.url))}
    assert families["llamacpp:tokens_predicted"].type == "counter"
    assert families["llamacpp:requests_processing"].type == "gauge"
    assert families["fastinfer:time_to_first_token_seconds"].type == "histogram"
    mine = [f for name, f in families.items() if ":" in name]
    assert mine
    assert all(f.documentation.endswith(".") and f.type != "unknown" for f in mine)


def test_only_this_machine_can_ask_unless_another_address_is_given():
    with fastinfer.serve_metrics(0) as server:
        assert server.host == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"
        bound = server._server.socket.getsockname()
        assert bound == ("127.0.0.1", server.port)


def test_closing_frees_the_port_and_ends_the_thread():
    before = set(threading.enumerate())
    server = fastinfer.serve_metrics(0)
    get(server.url)
    server.close()
    server.close()
    assert not [t for t in set(threading.enumerate()) - before if t is server._thread]
    assert not server._thread.is_alive()
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind(("127.0.0.1", server.port))
    assert "closed" in repr(server)


def test_a_cell_that_is_run_twice_gets_the_server_that_is_there():
    with fastinfer.serve_metrics(0) as server:
        assert fastinfer.serve_metrics(server.port) is server
        get(server.url)
    with fastinfer.serve_metrics(server.port) as another:
        assert another is not server
        get(another.url)


def test_a_server_without_a_variable_serves_on():
    port = fastinfer.serve_metrics(0).port
    assert "process_cpu_seconds_total" in get(f"http://127.0.0.1:{port}/metrics")
    fastinfer.serve_metrics(port).close()


@forks
def test_a_forked_child_leaves_the_port_to_its_parent(run_python: Callable[..., subprocess.CompletedProcess[str]]):
    code = """
import os, sys, urllib.request, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
import fastinfer
server = fastinfer.serve_metrics(0)
child = os.fork()
if child == 0:
    server.close()
    with fastinfer.serve_metrics(0) as own:
        urllib.request.urlopen(own.url).read()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
urllib.request.urlopen(server.url).read()
server.close()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_a_taken_port_is_an_error_that_says_so():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(FastInferError, match=rf"Port {port} of 127\.0\.0\.1 is taken") as raised:
            fastinfer.serve_metrics(port)
    assert "port=0" in raised.value.hint
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("port", [-1, 65536, True, "9400", 9400.0])
def test_what_is_no_port_is_refused(port: Any):
    with pytest.raises(FastInferError, match="A port is a whole number"):
        fastinfer.serve_metrics(port)


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(FastInferError, match=r"cannot be served on 192\.0\.2\.1") as raised:
        fastinfer.serve_metrics(0, host="192.0.2.1")
    assert raised.value.hint
