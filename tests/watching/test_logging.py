"""What the library logs, and that nobody who did not ask for it sees it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from fastinfer.engines.llama.forward import ForwardPass
from fastinfer.errors import EngineDeadError


def test_opening_and_closing_are_logged_by_alias(open_chat: Callable[..., Any], caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, logger="fastinfer")
    with open_chat(alias="noted") as chat:
        pass
    opened, closed = [r.getMessage() for r in caplog.records if r.getMessage().startswith("noted: ")]
    assert opened.startswith("noted: opened")
    assert chat.provenance.model in opened
    assert closed == "noted: closed."


def test_what_an_engine_died_of_is_logged_by_its_alias(
    fresh: Callable[..., Any], pictures: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    doomed = fresh(labels=["a", "b"], workers=1, alias="doomed")
    monkeypatch.setattr(ForwardPass, "score", fail)
    with pytest.raises(EngineDeadError):
        doomed.classify(pictures[0])
    [record] = [r for r in caplog.records if r.exc_info]
    assert record.getMessage() == "doomed: the engine has died."
    assert "a bug" in str(record.exc_info)


def test_a_program_that_sets_no_logging_up_sees_nothing(run_python: Callable[..., subprocess.CompletedProcess[str]]):
    code = """
import fastinfer, logging
from PIL import Image
logging.getLogger("fastinfer.engines").error("not for those who did not ask")
with fastinfer.classifier(labels=["a", "b"], workers=1) as classifier:
    list(classifier.classify_many([Image.new("RGB", (9, 9)), b"bad"], errors="return"))
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
