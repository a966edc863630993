"""A reading in a process of its own comes back, or the reason why it does not, whatever happens there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fastinfer.errors import EngineUnavailableError
from fastinfer.machine.checks.child import ask

HEAD = """
from dataclasses import dataclass
import os, signal, sys, time

@dataclass
class Reading:
    name: str
    parts: tuple

def read():
"""
Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Write a module that reads; its name."""

    def write(body: str) -> str:
        (tmp_path / "probe_of_a_test.py").write_text(f"{HEAD}    {body}\n    return Reading('ü', (1, 2))\n", "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return "probe_of_a_test"

    return write


def test_a_reading_comes_back_whatever_is_printed_on_the_way(module: Module) -> None:
    name = module("print('from Python'); os.write(1, b'from a library')")
    assert ask(name, 30) == {"name": "ü", "parts": [1, 2]}


def test_the_other_process_imports_from_where_this_one_does(module: Module) -> None:
    path = "[p for p in sys.path if p != sys.path[0]]"
    assert ask(module(f"return Reading('', tuple({path}))"), 30)["parts"] == sys.path[1:]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_crash_names_the_signal(module: Module) -> None:
    with pytest.raises(EngineUnavailableError, match="ended with signal SIGILL"):
        ask(module("os.kill(os.getpid(), signal.SIGILL)"), 30)


def test_an_exception_is_told_by_its_last_line(module: Module) -> None:
    with pytest.raises(EngineUnavailableError, match=r"ended with code 1: ZeroDivisionError: .+"):
        ask(module("1 / 0"), 30)


def test_one_that_hangs_is_ended_in_time(module: Module) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=r"not answered after 0\.3 seconds"):
        ask(module("time.sleep(60)"), 0.3)
    assert time.monotonic() - begun < 5


def test_without_an_executable_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(EngineUnavailableError, match="does not know its own executable"):
        ask("json", 30)
    monkeypatch.setattr(sys, "executable", "/there/is/no/such/python")
    with pytest.raises(EngineUnavailableError, match="no process can be started"):
        ask("json", 30)
