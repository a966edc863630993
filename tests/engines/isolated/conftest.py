"""Engines in processes of their own, and what is left of such a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import fastinfer
from fastinfer.classify.engine_config import ImageInput, engine_config
from fastinfer.engines.base import Task
from fastinfer.engines.isolated.classify import IsolatedClassifyEngine
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.supervisor import Patience
from fastinfer.models import check_gguf, resolve_gguf

#: No waiting between starts, as nothing else needs time to recover here.
AT_ONCE = Patience(load=60.0, close=5.0, back_off=(0.0, 0.0, 0.0))


@pytest.fixture(scope="session")
def config() -> Any:
    """The embedded model with one worker, which opens in half a second.

    One thread, since several wait for each other when tests run beside other work.
    """
    files = resolve_gguf("embedded")
    image = ImageInput.read(check_gguf(files.projector))
    parameters = fastinfer.preset("embedded", kind="classify").replace(workers=1, n_threads=1, n_ctx=2048).parameters
    return engine_config(parameters, files.model, files.projector, image, small=True)


@pytest.fixture
def open_engine(config: Any) -> Iterator[Callable[..., IsolatedClassifyEngine]]:
    """``open_engine(name)``: an engine of ``deadly_engines``, closed after the test."""
    made: list[IsolatedClassifyEngine] = []

    def make(name: str = "classifying", *, patience: Patience = AT_ONCE) -> IsolatedClassifyEngine:
        made.append(IsolatedClassifyEngine(Opener("classify", "deadly_engines", name, (config,)), patience=patience))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


@pytest.fixture(scope="session")
def task() -> Callable[[Any], Task]:
    """``task(engine)``: what that engine is asked."""

    def make(engine: Any) -> Task:
        from fastinfer.classify.labels import check_labels
        from fastinfer.classify.tasks import build_task

        return build_task(engine, "What is this?", check_labels(["red circle", "red square", "blue triangle"]), 8)

    return make


@pytest.fixture(scope="session")
def pixels(pictures: list[Any], config: Any) -> list[np.ndarray]:
    """The pictures as the engine takes them."""
    return [np.asarray(picture.resize(config.image_size)) for picture in pictures]


@pytest.fixture(scope="session")
def plain(config: Any) -> Callable[[tuple[int, int, int]], np.ndarray]:
    """``plain(colour)``: an image of one colour."""
    width, height = config.image_size
    return lambda colour: np.full((height, width, 3), colour, np.uint8)


@pytest.fixture(scope="session")
def gone() -> Callable[[int], bool]:
    """``gone(pid)``: wait until there is no such process, not even as a zombie."""

    def wait(pid: int, seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_DEAD:
                return True
            time.sleep(0.02)
        return False

    return wait


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Afterwards this process has no other children and descriptors than before, and no shared memory has a name."""

    def there() -> tuple[set[int], int, set[str]]:
        shared = Path("/dev/shm")
        named = {path.name for path in shared.iterdir()} if shared.is_dir() else set()
        own = psutil.Process()
        return {child.pid for child in own.children()}, own.num_fds(), named

    before = there()
    yield
    end = time.monotonic() + 10.0
    while (after := there()) != before and time.monotonic() < end:
        time.sleep(0.05)
    assert after == before
