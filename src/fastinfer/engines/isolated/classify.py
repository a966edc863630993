"""Classification in a process of its own: pixels and scores in shared memory, the rest through a socket."""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from copy import copy
from functools import partial
from typing import Any, Final

import numpy as np

from fastinfer.engines.base import EngineDescription, Naming, Scores, Task
from fastinfer.engines.isolated.calls import call
from fastinfer.engines.isolated.face import IsolatedEngine
from fastinfer.engines.isolated.failures import read_failure
from fastinfer.engines.isolated.memory import Arena
from fastinfer.engines.isolated.messages import encode
from fastinfer.engines.isolated.opener import Opener
from fastinfer.engines.isolated.process import EngineProcess
from fastinfer.engines.isolated.request import Request
from fastinfer.engines.isolated.supervisor import Patience, Supervisor
from fastinfer.errors import RequestCancelledError
from fastinfer.images.prepared import EngineImage, ImagePreparation, PreparedImage
from fastinfer.interrupts import Answer, Deferral

__all__ = ["KEPT_TASKS", "IsolatedClassifyEngine"]

#: Bytes of images that the process is given at once; others wait on this side.
_MOST_IMAGES: Final = 1 << 28
_MOST_SCORES: Final = 1 << 24
#: Tasks that are known by a number.
KEPT_TASKS: Final = 64


class IsolatedClassifyEngine(IsolatedEngine):
    """A :class:`fastinfer.engines.base.GroupingEngine` in another process, with the same results and errors.

    Where that process dies, it is started again, and what it was computing is computed once more: at most three times
    (twice where it hung), the last time alone, so that an image that kills it fails without its siblings.

    Args:
        opener: opens the engine, over there.
        preparation: what is done to pixels here, given the type that the engine computes with, as numpy calls it; None
            where it takes pixels.
        patience: how long things may take.

    Raises:
        FastInferError: what opening the engine raised.
        EngineDeadError: the process died of it.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        preparation: Callable[[str], ImagePreparation | None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._images, self._scores = Arena(_MOST_IMAGES), Arena(_MOST_SCORES)
        super().__init__(opener, (self._images, self._scores), patience)
        self._lock = threading.Lock()
        self._tasks: OrderedDict[Task, int] = OrderedDict()
        self._last_task = 0
        facts = self._start()
        dtype, size = facts["dtype"], facts["image_size"]
        self._description = EngineDescription(
            engine=facts["engine"],
            device=facts["device"],
            image_size=None if size is None else (size[0], size[1]),
            batched_images=facts["batched_images"],
            preparation=preparation(dtype) if dtype is not None and preparation is not None else None,
            path=facts["path"],
        )

    @property
    def description(self) -> EngineDescription:
        """What the engine is."""
        return self._description

    @property
    def group_size(self) -> int:
        """The most images of a batch."""
        return int(self._supervisor.facts["group_size"])

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        """Tokens of a label as an answer to the prompt. Safe from any thread.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
            LabelError: this engine cannot score such a label.
        """
        tokens, _ = call(self._supervisor, "tokenize_label", label, prompt, timeout=self._patience.load)
        return [int(token) for token in tokens]

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        """Queue one image, prepared as the description says; the future may be cancelled until it is answered.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        (future,) = self._submit([image], task, together=False)
        return future

    def submit_together(self, images: Sequence[EngineImage], task: Task) -> list[Future[Scores]]:
        """Queue at most ``group_size`` images as a batch of their own. Safe from any thread.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        return self._submit(images, task, together=True)

    def _submit(self, images: Sequence[EngineImage], task: Task, *, together: bool) -> list[Future[Scores]]:
        request = _Images(images, task, self._number(task), together, self._images, self._scores)
        self._supervisor.ask(request)
        cancel = partial(_cancel, weakref.ref(self._supervisor), request)
        with Deferral():
            for future in request.futures:
                future.add_done_callback(cancel)
        return request.futures

    def _number(self, task: Task) -> int:
        with self._lock:
            number = self._tasks.get(task)
            if number is None:
                self._last_task += 1
                number = self._tasks[task] = self._last_task
                if len(self._tasks) > KEPT_TASKS:
                    self._tasks.popitem(last=False)
            else:
                self._tasks.move_to_end(task)
            return number


def _cancel(supervisor: weakref.ref[Supervisor], request: _Images, future: Future[Scores]) -> None:
    if future.cancelled() and all(f.done() for f in request.futures) and (found := supervisor()) is not None:
        found.cancel(request.number)


class _Images(Request):
    """Images of one task: one, or several that are computed in one batch."""

    def __init__(
        self, images: Sequence[EngineImage], task: Task, task_number: int, together: bool, pixels: Arena, scores: Arena
    ) -> None:
        super().__init__()
        self.futures: list[Future[Scores]] = [Answer() for _ in images]
        self._images: Sequence[EngineImage] | None = images
        self._task, self._task_number, self._together = task, task_number, together
        self._pixels, self._scores = pixels, scores
        self._places: list[dict[str, Any]] = []
        self._rows: list[int] = []
        self._left = set(range(len(images)))
        self._labels = 0 if task.trie is None else task.trie.labels
        self._arrived = time.perf_counter()

    def prepare(self) -> bool:
        if self._images is None:
            return True
        arrays = [image.data if isinstance(image, PreparedImage) else image for image in self._images]
        offsets = self._pixels.take_all([data.nbytes for data in arrays])
        if offsets is None:
            return False
        places: list[dict[str, Any]] = []
        for image, data, offset in zip(self._images, arrays, offsets, strict=True):
            np.copyto(self._pixels.array(offset, data.shape, data.dtype), data)
            place = {"offset": offset, "shape": data.shape}
            if isinstance(image, PreparedImage):
                place |= {"tokens": image.tokens, "grid": image.grid}
            places.append(place)
        self._places, self._images = places, None
        # Scores are small, and as many of them as there are images: there is always a place.
        rows = [self._scores.take(8 * self._labels, always=True) for _ in self.futures]
        self._rows = [row for row in rows if row is not None]
        return True

    def message(self, process: EngineProcess) -> bytes:
        described = b""
        if self._task_number not in process.known:
            process.known.add(self._task_number)
            task, trie = self._task, self._task.trie
            described = encode(
                {
                    "op": "task",
                    "task": self._task_number,
                    "prompt": task.prompt,
                    "opening": task.opening,
                    "max_tokens": task.max_tokens,
                    "labels": None if trie is None else trie.tokens(),
                }
            )
        self._left = set(range(len(self.futures)))
        return described + encode(
            {
                "op": "classify",
                "id": self.number,
                "task": self._task_number,
                "images": self._places,
                "rows": self._rows,
                "together": self._together,
                # What has passed on this side belongs to the time in the queue.
                "waited_ms": (time.perf_counter() - self._arrived) * 1e3,
            }
        )

    def take(self, body: dict[str, Any], blob: bytes) -> bool:
        if "n" not in body:  # the whole of it, before it was sent
            self._left.clear()
            return True
        index = int(body["n"])
        self._left.discard(index)
        future = self.futures[index]
        try:
            if "error" in body:
                future.set_exception(read_failure(body["error"]))
            elif "scores" in body:
                future.set_result(self._read(index, body["scores"]))
            elif not future.cancelled():
                future.set_exception(RequestCancelledError("The request was cancelled."))
        except InvalidStateError:
            pass  # nobody waits for it any more, or it was answered by a process that died before the others were
        return not self._left

    def _read(self, index: int, body: dict[str, Any]) -> Scores:
        naming = body["naming"]
        labels = None
        if self._task.trie is not None:
            labels = self._scores.array(self._rows[index], (self._labels,), np.float64).copy()
        return Scores(
            labels=labels,
            naming=None if naming is None else Naming(naming[0], naming[1], naming[2]),
            queued_ms=body["queued_ms"],
            encode_ms=body["encode_ms"],
            score_ms=body["score_ms"],
            batch=body["batch"],
            prompt_tokens=body["prompt_tokens"],
        )

    @property
    def is_repeatable(self) -> bool:
        return True

    def split(self) -> Sequence[_Images]:
        left = sorted(self._left)
        if len(left) < 2:
            return ()
        parts = []
        for index in left:
            part = copy(self)
            part.futures, part._left = [self.futures[index]], {0}
            part._places, part._rows = [self._places[index]], [self._rows[index]]
            parts.append(part)
        # Theirs is what is left, and is given back by them.
        answered = [index for index in range(len(self.futures)) if index not in self._left]
        self._places, self._rows = [self._places[i] for i in answered], [self._rows[i] for i in answered]
        return parts

    def fail(self, error: Exception) -> None:
        for future in self.futures:
            try:
                future.set_exception(error)
            except InvalidStateError:
                continue

    def release(self) -> None:
        self._images = None
        for place in self._places:
            self._pixels.give(place["offset"])
        for row in self._rows:
            self._scores.give(row)
