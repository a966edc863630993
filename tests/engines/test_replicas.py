"""Several engines behind the face of one: work is shared, results are the same, and one that dies dies alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastinfer.engines.base import ClassifyEngine, Scores, Task
from fastinfer.engines.llama.classify import LlamaClassifyEngine
from fastinfer.engines.llama.classify_config import LlamaClassifyConfig
from fastinfer.engines.replicas import ReplicatedEngine
from fastinfer.engines.scoring import LabelTrie
from fastinfer.errors import EngineDeadError, FastInferError
from fastinfer.models import check_gguf, resolve_gguf

PROMPT = "What is this?"
LABELS = ["red circle", "red square", "blue triangle"]


@pytest.fixture(scope="module")
def config() -> LlamaClassifyConfig:
    files = resolve_gguf("embedded")
    assert files.projector is not None
    side = int(check_gguf(files.projector).metadata["clip.vision.image_size"])
    return LlamaClassifyConfig(
        model=files.model,
        projector=files.projector,
        n_ctx=512,
        n_batch=512,
        n_ubatch=512,
        n_threads=1,
        workers=1,
        n_gpu_layers=0,
        flash_attn=False,
        type_k="f32",
        type_v="f32",
        batch_images=2,
        image_size=(side, side),
        image_tokens=16,
    )


@pytest.fixture
def engines(config: LlamaClassifyConfig) -> Iterator[Callable[[int], list[LlamaClassifyEngine]]]:
    """``engines(count)``: engines of llama.cpp, closed after the test."""
    made: list[LlamaClassifyEngine] = []

    def make(count: int) -> list[LlamaClassifyEngine]:
        new = [LlamaClassifyEngine(config) for _ in range(count)]
        made.extend(new)
        return new

    yield make
    for engine in made:
        engine.close()


def task_of(engine: ClassifyEngine) -> Task:
    return Task(PROMPT, LabelTrie([engine.tokenize_label(label, PROMPT) for label in LABELS]), 12)


@pytest.fixture(scope="module")
def pixels(config: LlamaClassifyConfig) -> list[Any]:
    width, height = config.image_size or (0, 0)
    return list(np.random.default_rng(5).integers(0, 256, (6, height, width, 3), dtype=np.uint8))


def counted(engine: LlamaClassifyEngine) -> list[Future[Scores]]:
    """What the engine is given from now on, as it grows; it is computed as before."""
    given: list[Future[Scores]] = []
    submit = engine.submit

    def watched(image: Any, task: Task) -> Future[Scores]:
        future = submit(image, task)
        given.append(future)
        return future

    engine.submit = watched  # type: ignore[method-assign]
    return given


def test_the_results_are_those_of_one_engine(engines: Any, pixels: list[Any]) -> None:
    alone, *replicas = engines(3)
    both = ReplicatedEngine(replicas)
    task, same_task = task_of(alone), task_of(both)
    futures = [both.submit(image, same_task) for image in pixels]
    for image, future in zip(pixels, futures, strict=True):
        expected, scores = alone.submit(image, task).result(30), future.result(30)
        assert scores.labels == pytest.approx(expected.labels, abs=0.02)  # batches differ
        assert scores.prompt_tokens == expected.prompt_tokens


def test_a_label_has_the_tokens_that_it_has_with_one_engine(engines: Any) -> None:
    alone, *replicas = engines(3)
    both = ReplicatedEngine(replicas)
    for label in LABELS:
        assert both.tokenize_label(label, PROMPT) == alone.tokenize_label(label, PROMPT)


def test_work_goes_to_whoever_has_the_least(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(3)
    given = [counted(engine) for engine in replicas]
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    wait([shared.submit(image, task) for image in pixels * 5], 60)
    assert sum(map(len, given)) == 30
    assert min(map(len, given)) >= 5


def test_work_from_many_threads_is_shared_and_all_of_it_is_answered(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(2)
    given = [counted(engine) for engine in replicas]
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda image: shared.submit(image, task).result(60), pixels * 8))
    assert all(answer.labels is not None and answer.labels.shape == (3,) for answer in answers)
    assert min(map(len, given)) >= 12


def settled(shared: ReplicatedEngine) -> list[int]:
    """Images in work at each replica, once the callbacks of finished ones have run."""
    for _ in range(2000):
        if not any(shared._work):
            break
        threading.Event().wait(0.005)
    return shared._work


def test_nothing_is_in_work_once_all_is_done_failed_or_cancelled(engines: Any, pixels: list[Any]) -> None:
    shared = ReplicatedEngine(engines(2))
    task = task_of(shared)
    futures = [shared.submit(image, task) for image in pixels * 4]
    for future in futures[::3]:
        future.cancel()
    too_long = replace(task, prompt="What is this? " * 400)
    failing = shared.submit(pixels[0], too_long)
    with pytest.raises(FastInferError):
        failing.result(30)
    wait(futures, 60)
    assert settled(shared) == [0, 0]


def test_a_replica_that_is_closed_fails_its_own_images_and_the_others_go_on(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(3)
    given = [counted(engine) for engine in replicas]
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    futures = [shared.submit(image, task) for image in pixels * 10]
    replicas[1].close()
    later = [shared.submit(image, task) for image in pixels * 2]
    wait([*futures, *later], 60)
    failed = [future for future in futures if future.exception() is not None]
    assert failed
    assert all(isinstance(future.exception(), EngineDeadError) for future in failed)
    assert {id(future) for future in failed} <= {id(future) for future in given[1]}
    assert all(future.exception() is None for future in later)
    assert settled(shared) == [0, 0, 0]
    assert shared.tokenize_label("red circle", PROMPT) == replicas[0].tokenize_label("red circle", PROMPT)


def test_a_closed_first_replica_is_passed_over(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(2)
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    replicas[0].close()
    shared.check_process()
    assert shared.tokenize_label("red circle", PROMPT)
    for image in pixels:
        assert shared.submit(image, task).result(30).labels is not None


def test_when_all_replicas_are_closed_the_engine_is_dead(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(2)
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    for engine in replicas:
        engine.close()
    for _ in range(2):
        with pytest.raises(EngineDeadError, match="Every replica") as error:
            shared.submit(pixels[0], task)
        assert isinstance(error.value.__cause__, EngineDeadError)
        assert error.value.hint
        with pytest.raises(EngineDeadError, match="Every replica"):
            shared.tokenize_label("red circle", PROMPT)
    assert shared._work == [0, 0]


def test_closing_closes_every_replica_and_answers_all_that_waits(engines: Any, pixels: list[Any]) -> None:
    replicas = engines(2)
    shared = ReplicatedEngine(replicas)
    task = task_of(shared)
    futures = [shared.submit(image, task) for image in pixels * 5]
    shared.close()
    shared.close()
    assert not wait(futures, 20).not_done
    for engine in replicas:
        with pytest.raises(EngineDeadError):
            engine.submit(pixels[0], task)


def test_the_description_is_that_of_one_engine_with_the_devices_of_all(engines: Any) -> None:
    replicas = engines(2)
    for index, engine in enumerate(replicas):
        engine._core.description = replace(engine.description, device=f"cuda:{index}")
    shared = ReplicatedEngine(replicas)
    assert shared.description == replace(replicas[0].description, device="cuda:0, cuda:1")
