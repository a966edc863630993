"""Jobs that end in the middle, and what they are when they have gone on."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from beside import beside
from fastinfer.errors import EngineDeadError
from fastinfer.jobs.progress import Progress

Paint = Callable[[Path, int], Path]
COUNT = 22
OPTIONS: dict[str, Any] = {"labels": ["red circle", "line"], "vision_max_batch_size": 4, "workers": 1, "n_threads": 1}
#: A job that ends itself by SIGKILL at a moment: when so many statements of its journal have been executed, or when the
#: output was written, before or after it is put into its place.
JOB = """
import os, pathlib, signal, sys
import fastinfer
from fastinfer.jobs import journal, runner

source, target, moment, count = *sys.argv[1:4], int(sys.argv[4])
options = {"vision_max_batch_size": 4, "workers": 1, "n_threads": 1}
runner._COMMIT_EVERY = 0.0

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "statement":
    prepare, seen = journal.Journal._prepare, []
    def counted(self):
        self._database.set_trace_callback(lambda text: seen.append(text) or (len(seen) == count and die()))
        prepare(self)
    journal.Journal._prepare = counted
elif moment == "written":
    journal.Journal.made = die
elif moment == "in place":
    rename = pathlib.Path.replace
    pathlib.Path.replace = lambda part, place: rename(part, place).samefile(target) and die()
print(fastinfer.run(source, target, labels=["red circle", "line"], **options).to_dict())
"""


@pytest.fixture
def many(tmp_path: Path, paint: Paint) -> Path:
    """22 images, one more of the same bytes, and two broken ones."""
    for seed in range(COUNT):
        paint(tmp_path / "many" / f"{seed:02}.png", seed)
    paint(tmp_path / "many" / "05 twin.png", 5)
    for name in ("03 broken.png", "17 broken.png"):
        (tmp_path / "many" / name).write_bytes(name.encode())
    return tmp_path / "many"


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int, what: Callable[[], None]) -> None:
    """Have something happen when so many items have their outcome."""
    done = Progress.done
    seen = []

    def counted(self: Progress, *args: Any, **options: Any) -> None:
        done(self, *args, **options)
        seen.append(1)
        if len(seen) >= count:
            what()

    monkeypatch.setattr(Progress, "done", counted)


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_job_killed_again_and_again_ends_with_the_same_bytes(
    many: Path, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    done = fastinfer.run(many, whole, **OPTIONS)
    assert (done.computed, done.duplicates) == (24, 1)
    for moment, count in [("statement", 14), ("statement", 26), ("statement", 60), ("written", 0), ("in place", 0)]:
        ended = run_python(JOB, str(many), str(killed), moment, str(count))
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert killed.exists() == (moment == "in place")
    last = run_python(JOB, str(many), str(killed), "none", "0")
    assert last.returncode == 0, last.stderr
    assert "'computed': 0, 'reused': 24, 'duplicates': 1" in last.stdout
    assert killed.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("at_every_group")
def test_an_interrupt_keeps_whole_groups_and_the_engine(
    engine: Any, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 11, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            fastinfer.run(many, output, using=engine)
    assert not output.exists()
    assert engine.classify(many / "00.png").ok
    resumed = fastinfer.run(many, output, using=engine)
    assert resumed.reused in (4, 8)
    assert resumed.reused + resumed.computed == 24
    whole = fastinfer.run(many, tmp_path / "whole.jsonl", using=engine)
    assert output.read_bytes() == whole.output.read_bytes()


@pytest.mark.usefixtures("at_every_group")
async def test_a_cancelled_task_ends_at_a_commit_and_goes_on_later(
    engine: Any, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, begun, loop = tmp_path / "out.jsonl", asyncio.Event(), asyncio.get_running_loop()

    def slowly() -> None:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.02)

    with monkeypatch.context() as patch:
        interrupt_after(patch, 3, slowly)
        job = asyncio.create_task(fastinfer.arun(many, output, using=engine))
        await begun.wait()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
    assert not output.exists()
    resumed = await fastinfer.arun(many, output, using=engine)
    assert resumed.reused in (4, 8, 12)
    assert resumed.reused + resumed.computed == 24


@pytest.mark.usefixtures("at_every_group")
def test_an_engine_that_ends_ends_the_job_and_what_was_done_is_kept(
    fresh: Callable[..., Any], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.jsonl"
    dying = fresh(**OPTIONS)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 6, dying.close)
        with pytest.raises(EngineDeadError):
            fastinfer.run(many, output, using=dying)
    resumed = fastinfer.run(many, output, **OPTIONS)
    assert resumed.reused >= 4
    assert resumed.errors_by_type == {"ImageDecodeError": 2}


def test_errors_are_computed_again_only_when_asked(engine: Any, many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    fastinfer.run(many, output, using=engine)
    again = fastinfer.run(many, output, using=engine)
    assert (again.computed, again.errors) == (0, 2)
    retried = fastinfer.run(many, output, using=engine, retry_errors=True)
    assert (retried.computed, retried.reused, retried.errors) == (2, 22, 2)


def test_an_engine_in_use_by_others_gives_the_same_bytes(engine: Any, many: Path, tmp_path: Path) -> None:
    alone = fastinfer.run(many, tmp_path / "alone.jsonl", using=engine)
    with beside(lambda: engine.classify(many / "01.png")):
        disturbed = fastinfer.run(many, tmp_path / "disturbed.jsonl", using=engine)
    assert alone.output.read_bytes() == disturbed.output.read_bytes()
