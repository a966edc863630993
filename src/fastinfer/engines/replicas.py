"""Several engines with the same model, each on a GPU of its own, behind the face of one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from fastinfer.engines.base import ClassifyEngine, EngineDescription, Scores, Task
from fastinfer.errors import EngineDeadError
from fastinfer.images.prepared import EngineImage

__all__ = ["ReplicatedEngine"]

_Result = TypeVar("_Result")


class ReplicatedEngine:
    """Gives each image to the replica with the fewest in work.

    A replica that dies fails what it had in work; the others go on. The engine is dead when all of them are.

    Args:
        replicas: at least one; closed with this engine.
    """

    def __init__(self, replicas: Sequence[ClassifyEngine]) -> None:
        self._replicas = list(replicas)
        self._work = [0] * len(self._replicas)
        self._dead: dict[int, EngineDeadError] = {}
        self._lock = threading.Lock()
        first = self._replicas[0].description
        self._description = replace(first, device=", ".join(r.description.device for r in self._replicas))

    @property
    def description(self) -> EngineDescription:
        """What the engine is, with the devices of all replicas."""
        return self._description

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        """Tokens of a label as an answer to the prompt. Safe from any thread."""
        return self._living(lambda engine, _: engine.tokenize_label(label, prompt))

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        """Queue one image with the replica that is least busy; all prepare images alike.

        Raises:
            EngineDeadError: every replica was closed or has died.
        """

        def give(engine: ClassifyEngine, index: int) -> Future[Scores]:
            with self._lock:
                self._work[index] += 1
            try:
                future = engine.submit(image, task)
            except BaseException:
                self._done(index)
                raise
            future.add_done_callback(lambda _: self._done(index))
            return future

        return self._living(give)

    def go_by(self, alias: str) -> None:
        """Be called so in logs, each replica with its number."""
        for number, replica in enumerate(self._replicas, 1):
            replica.go_by(f"{alias}, replica {number}")

    def limit_steps(self, seconds: float) -> None:
        """Count a replica as hanging where a step of it takes longer."""
        for replica in self._replicas:
            replica.limit_steps(seconds)

    def check_process(self) -> None:
        """Refuse work in another process than the engine's own; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        self._replicas[0].check_process()

    def close(self) -> None:
        """Close every replica. Idempotent."""
        for replica in self._replicas:
            replica.close()

    def _done(self, index: int) -> None:
        with self._lock:
            self._work[index] -= 1

    def _living(self, ask: Callable[[ClassifyEngine, int], _Result]) -> _Result:
        """Ask the least busy replica, and the next where one turns out to be dead."""
        while True:
            with self._lock:
                left = [i for i in range(len(self._replicas)) if i not in self._dead]
                if not left:
                    raise EngineDeadError(
                        "Every replica of the engine was closed or has died.", hint="Create a new one."
                    ) from next(iter(self._dead.values()))
                index = min(left, key=self._work.__getitem__)
            try:
                return ask(self._replicas[index], index)
            except EngineDeadError as error:
                with self._lock:
                    self._dead[index] = error
