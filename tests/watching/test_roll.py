"""The names that engines go by."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastinfer.errors import FastInferError, ModelNotFoundError
from fastinfer.watching import roll
from fastinfer.watching.roll import named, watched
from forks import forks


def aliases() -> set[str]:
    return {engine.alias for engine in watched()[0]}


def test_without_an_alias_an_engine_has_the_name_of_its_preset_and_others_are_numbered():
    with named(None, "a preset") as first, named(None, "a preset") as second, named(None, "a preset") as third:
        assert (first, second, third) == ("a preset", "a preset-2", "a preset-3")


def test_an_alias_that_was_asked_for_twice_is_an_error_that_says_what_to_do():
    with named("cats", "embedded"), pytest.raises(FastInferError, match="'cats' already") as raised:
        named("cats", "embedded").__enter__()
    assert raised.value.hint


@pytest.mark.parametrize("alias", ["", "  ", 3])
def test_what_is_no_name_is_refused(fresh: Callable[..., Any], alias: Any):
    with pytest.raises(FastInferError, match="An alias is a name"):
        fresh(alias=alias)


def test_a_classifier_and_a_chat_model_share_the_names(fresh: Callable[..., Any], chat: Any):
    with pytest.raises(FastInferError, match="'talker'"):
        fresh(alias="talker")
    classifier = fresh(alias="looker", workers=1)
    assert (classifier.alias, chat.alias) == ("looker", "talker")
    assert {"looker", "talker"} <= aliases()


def test_closing_frees_the_name(open_chat: Callable[..., Any]):
    for _ in range(2):
        with open_chat(alias="again") as chat:
            assert chat.alias == "again"
        assert "again" not in aliases()
        chat.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_while_a_dropped_engine_is_struck_off_is_not_lost_and_counts_nothing_twice(open_chat, monkeypatch):
    chat = open_chat(alias="struck off")
    chat.chat("hello", max_tokens=2)
    real = roll.absorb

    def pressed(*tallies):
        monkeypatch.setattr(roll, "absorb", real)
        signal.raise_signal(signal.SIGINT)
        return real(*tallies)

    monkeypatch.setattr(roll, "absorb", pressed)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it comes a moment later
        del chat
        gc.collect()
        time.sleep(5)
    assert "struck off" not in aliases()
    assert watched()[1]["struck off", "chat"].finished == 1


def test_an_engine_that_is_dropped_frees_its_name(open_chat: Callable[..., Any]):
    chat = open_chat(alias="dropped")
    assert "dropped" in aliases()
    del chat
    gc.collect()
    assert "dropped" not in aliases()


def test_an_engine_that_does_not_open_frees_its_name(open_chat: Callable[..., Any], fresh: Callable[..., Any]):
    for _ in range(2):
        with pytest.raises(ModelNotFoundError):
            fresh(alias="missing", model="/no/such/model.gguf")
        with pytest.raises(FastInferError):
            open_chat(alias="missing", chat_template="no such template")
    assert "missing" not in aliases()


@forks
def test_a_forked_child_has_no_engines_and_all_names(run_python: Callable[..., subprocess.CompletedProcess[str]]):
    code = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
import fastinfer
from fastinfer.watching.roll import named, watched
classifier = fastinfer.classifier(alias="parent's", workers=1)
child = os.fork()
if child == 0:
    engines, sums = watched()
    with named("parent's", "embedded") as name:
        os._exit(0 if (engines, sums, name) == ([], {}, "parent's") else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [engine.alias for engine in watched()[0]] == ["parent's"]
classifier.close()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
