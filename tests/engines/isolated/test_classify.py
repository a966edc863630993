"""A classifier whose engine has a process of its own: the same results, and whatever ends it, nothing is lost."""

from __future__ import annotations

import itertools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import deadly_engines as deadly
import fastinfer
from fastinfer.engines.base import Task
from fastinfer.engines.isolated import classify as isolated_module
from fastinfer.engines.isolated.supervisor import Patience
from fastinfer.engines.llama.classify import LlamaClassifyEngine
from fastinfer.errors import EngineDeadError, ModelLoadError, PromptTooLongError, RequestTimeoutError
from forks import fork_script, forks

pytestmark = pytest.mark.usefixtures("nothing_left")

SIGNALS = [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV]


@pytest.fixture(scope="module")
def expected(config, pixels, task):
    """The scores of an engine in this process, each image alone."""
    engine = LlamaClassifyEngine(config)
    asked = task(engine)
    scores = [engine.submit_together([image], asked)[0].result(60).labels for image in pixels]
    engine.close()
    return scores


def alone(engine, image, asked):
    return engine.submit_together([image], asked)[0]


def test_scores_are_bit_for_bit_those_of_an_engine_in_this_process(open_engine, pixels, task, expected):
    engine = open_engine()
    asked = task(engine)
    for image, scores in zip(pixels, expected, strict=True):
        np.testing.assert_array_equal(alone(engine, image, asked).result(60).labels, scores)


def test_the_classifier_is_the_same_object_with_the_same_answers(pictures):
    options = {"labels": ["red circle", "red square"], "workers": 1, "n_threads": 1}
    with fastinfer.classifier(**options) as inside, fastinfer.classifier(isolate=True, **options) as isolated:
        assert type(isolated) is type(inside)
        assert isolated.provenance.kernel_path.endswith("in a process of its own")
        assert isolated.group_size == inside.group_size
        ours, theirs = (list(c.classify_many(pictures, reproducible=True)) for c in (inside, isolated))
        for one, other in zip(ours, theirs, strict=True):
            assert one.probabilities == other.probabilities
        for change in (None, ["a tree", "a house", "red circle"]):
            inside.labels = isolated.labels = change
            (one,), (other,) = (list(c.classify_many(pictures[:1], reproducible=True)) for c in (inside, isolated))
            assert (one.label, one.probabilities) == (other.label, other.probabilities)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_process_that_dies_in_the_middle_of_its_work_is_replaced_and_nothing_is_lost(
    open_engine, pixels, task, expected, number
):
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in pixels * 4]
    first = engine.pid
    futures[0].result(60)
    os.kill(first, number)
    for at, future in enumerate(futures):
        np.testing.assert_allclose(future.result(60).labels, expected[at % len(pixels)], atol=2e-3)
    assert engine.pid != first


def test_one_that_dies_while_it_is_idle_is_replaced_before_anyone_notices(open_engine, pixels, task, gone):
    engine = open_engine()
    asked = task(engine)
    first = engine.pid
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    assert engine.submit(pixels[0], asked).result(60).labels is not None


@pytest.mark.parametrize("colour", [deadly.ABORT, deadly.END, deadly.RAISE], ids=["abort", "exit", "bug"])
def test_an_image_that_kills_the_engine_fails_alone(open_engine, pixels, plain, task, expected, colour):
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in [*pixels, plain(colour), *pixels]]
    poisonous = futures.pop(len(pixels))
    with pytest.raises(EngineDeadError, match="each of the 3 times that it computed this") as failed:
        poisonous.result(60)
    said = f"{failed.value} {failed.value.__cause__}"
    if colour == deadly.ABORT:
        assert "SIGABRT" in said
        assert "ggml_abort: something is wrong" in said, "its last lines"
        assert "_harm" in said, "where its threads stood"
    for at, future in enumerate(futures):
        np.testing.assert_allclose(future.result(60).labels, expected[at % len(pixels)], atol=2e-3)


def test_one_that_kills_its_group_is_found_out_and_fails_alone(open_engine, pixels, plain, task, expected):
    engine = open_engine()
    asked = task(engine)
    harmful = plain(deadly.ABORT)
    groups = [[pixels[0], pixels[1], pixels[2]], [pixels[3], harmful, pixels[4], harmful], [pixels[5], pixels[0]]]
    first, second, third = [engine.submit_together(group, asked) for group in groups]
    for future in (second[1], second[3]):
        with pytest.raises(EngineDeadError, match="each of the 4 times that it computed this, the last time alone"):
            future.result(60)
    for future, at in zip([*first, second[0], second[2], *third], [0, 1, 2, 3, 4, 5, 0], strict=True):
        np.testing.assert_allclose(future.result(60).labels, expected[at], atol=2e-3)
    assert engine.submit(pixels[0], asked).result(60).labels is not None


def test_several_in_a_row_that_kill_it_are_no_reason_to_give_the_engine_up(open_engine, pixels, plain, task, expected):
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in [pixels[0], *[plain(deadly.END)] * 5, pixels[1]]]
    for future in futures[1:-1]:
        with pytest.raises(EngineDeadError, match="the last time alone") as failed:
            future.result(60)
        assert failed.value.restarted
    for future, at in ((futures[0], 0), (futures[-1], 1)):
        np.testing.assert_allclose(future.result(60).labels, expected[at], atol=2e-3)


def test_no_place_in_memory_is_lost_to_a_group_that_was_split(open_engine, pixels, plain, task, monkeypatch):
    monkeypatch.setattr(isolated_module, "_MOST_IMAGES", 4 * pixels[0].nbytes)
    engine = open_engine()
    asked = task(engine)
    for future in engine.submit_together([pixels[0], plain(deadly.END), pixels[1], pixels[2]], asked):
        assert isinstance(future.exception(60), (EngineDeadError, type(None)))
    for future in engine.submit_together(pixels[:4], asked):
        assert future.result(60).labels is not None


@pytest.mark.parametrize("colour", [deadly.SLEEP, deadly.HOLD], ids=["sleeps", "holds the interpreter's lock"])
def test_one_that_hangs_it_fails_alone_too_and_the_error_says_where_it_stood(
    open_engine, pixels, plain, task, expected, colour
):
    engine = open_engine()
    asked = task(engine)
    alone(engine, pixels[0], asked).result(60)
    engine.limit_steps(3.0)
    hanging, after = engine.submit(plain(colour), asked), engine.submit(pixels[0], asked)
    with pytest.raises(EngineDeadError) as failed:
        hanging.result(60)
    assert "_harm" in f"{failed.value} {failed.value.__cause__}"
    np.testing.assert_allclose(after.result(60).labels, expected[0], atol=2e-3)


def test_an_engine_that_dies_of_everything_is_dead_after_a_few_starts(open_engine, pixels, task):
    engine = open_engine("dying_after_load", patience=Patience(load=60.0, close=5.0, back_off=(0.0,) * 3, alone=3))
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in pixels]
    for future in futures:
        with pytest.raises(EngineDeadError):
            future.result(60)
    with pytest.raises(EngineDeadError, match="has died") as refused:
        engine.submit(pixels[0], asked)
    assert "code 3" in str(refused.value.__cause__)
    assert engine.pid is None


def test_one_that_dies_while_it_loads_raises_its_last_words(open_engine):
    with pytest.raises(EngineDeadError, match="SIGABRT") as failed:
        open_engine("dying_at_load")
    assert "an illegal memory access" in str(failed.value.__cause__)


def test_one_that_hangs_while_it_loads_is_not_waited_for_longer_than_asked(open_engine):
    with pytest.raises(RequestTimeoutError, match="load_timeout"):
        open_engine("hanging_at_load", patience=Patience(load=1.5))


def test_what_opening_raises_is_raised_here(tmp_path, monkeypatch):
    monkeypatch.setattr("fastinfer.models.gguf.check_gguf", lambda path: None)
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelLoadError):
        fastinfer.classifier(model=damaged, isolate=True)


def test_errors_of_single_images_cross_over_as_they_are(open_engine, pixels, task):
    engine = open_engine()
    asked = task(engine)
    too_long = Task("What is this? " * 2000, asked.trie, 8)
    siblings = [engine.submit(pixels[0], asked), engine.submit(pixels[0], too_long), engine.submit(pixels[1], asked)]
    with pytest.raises(PromptTooLongError) as failed:
        siblings.pop(1).result(60)
    assert failed.value.tokens > failed.value.limit > 0
    assert all(future.result(60).labels is not None for future in siblings)


def test_more_images_than_the_memory_holds_wait_and_are_all_answered(open_engine, pixels, task, expected, monkeypatch):
    monkeypatch.setattr(isolated_module, "_MOST_IMAGES", 3 * pixels[0].nbytes)
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in pixels * 5]
    for at, future in enumerate(futures):
        np.testing.assert_allclose(future.result(60).labels, expected[at % len(pixels)], atol=2e-3)


def test_what_is_cancelled_leaves_its_place_to_others(open_engine, pixels, task):
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(pixels[0], asked) for _ in range(100)]
    cancelled = [future.cancel() for future in futures[1:]]
    assert any(cancelled)
    assert futures[0].result(60).labels is not None
    assert engine.submit(pixels[1], asked).result(60).labels is not None


def test_closing_answers_who_waits_and_leaves_no_process(open_engine, pixels, task, gone):
    engine = open_engine()
    asked = task(engine)
    futures = [engine.submit(image, asked) for image in pixels * 4]
    process = engine.pid
    engine.close()
    engine.close()
    assert gone(process, seconds=1.0)
    answers = [future.exception(5) for future in futures]
    assert all(error is None or isinstance(error, EngineDeadError) for error in answers)
    assert isinstance(answers[-1], EngineDeadError)
    with pytest.raises(EngineDeadError, match="closed"):
        engine.submit(pixels[0], asked)


def test_closing_while_it_starts_again_does_not_wait_for_that(open_engine, pixels, task):
    engine = open_engine(patience=Patience(load=60.0, close=5.0, back_off=(0.0, 30.0, 30.0)))
    asked = task(engine)
    os.kill(engine.pid, signal.SIGKILL)
    waiting = engine.submit(pixels[0], asked)
    time.sleep(0.3)
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 10
    assert isinstance(waiting.exception(1) or EngineDeadError("answered before"), EngineDeadError)


def test_a_forgotten_classifier_ends_its_process(gone):
    classifier = fastinfer.classifier(isolate=True, workers=1, n_threads=1)
    process = classifier._engine.pid
    del classifier
    assert gone(process)


def test_many_threads_at_once_get_their_own_answers_while_it_is_killed_twice(open_engine, pixels, task, expected):
    engine = open_engine()
    asked = task(engine)
    answered = itertools.count()

    def ask(at):
        scores = alone(engine, pixels[at % 6], asked).result(120).labels
        if next(answered) in (15, 50):
            os.kill(engine.pid, signal.SIGKILL)
        return scores

    with ThreadPoolExecutor(16) as pool:
        scores = list(pool.map(ask, range(80)))
    for at, found in enumerate(scores):
        np.testing.assert_array_equal(found, expected[at % 6])


def test_a_parent_that_is_killed_leaves_no_process(run_python, gone, tmp_path):
    program = (
        "import os, signal, sys, pathlib, fastinfer\n"
        "classifier = fastinfer.classifier(labels=['a', 'b'], isolate=True, workers=1, n_threads=1)\n"
        "pathlib.Path(sys.argv[1]).write_text(str(classifier._engine.pid))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = tmp_path / "pid"
    done = run_python(program, str(said))
    assert done.returncode == -signal.SIGKILL
    assert gone(int(said.read_text()))


def test_the_parent_loads_no_engine(run_python):
    program = (
        "import sys, fastinfer\n"
        "with fastinfer.classifier(labels=['a', 'b'], isolate=True, workers=1, n_threads=1) as classifier:\n"
        "    assert classifier.classify(sys.argv[1]).label\n"
        "print('llama_cpp' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = run_python(program, str(Path(fastinfer.__file__).parent / "samples/red-circle.png"))
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["False", "False"], "")


@forks
def test_a_forked_child_is_refused_and_the_parents_engine_goes_on(run_python):
    code = fork_script(
        "classifier.classify(image)", "classifier.labels = ['c', 'd']", before="", after="classifier.close()",
        parent="assert classifier.classify(image).label",
    )  # fmt: skip
    load = (
        "import os, sys, numpy, fastinfer\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "classifier = fastinfer.classifier(labels=['a', 'b'], isolate=True, workers=1, n_threads=1)\n"
    )
    done = run_python(load + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
