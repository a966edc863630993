"""Classification on llama.cpp: a queue of images, and threads that work through it in batches.

Each worker thread owns a context and an image encoder; the weights of the language model are shared. For a small model
several workers of one CPU thread each do more than one worker of several threads, which wait for each other many times
in every batch; for a large one the encoder's weights and the KV cache are not worth having twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from fastinfer.engines.base import EngineDescription, Scores, Task
from fastinfer.engines.handle import EngineHandle, answer, fail, fail_all, fail_hung, take_batch
from fastinfer.engines.lifeline import Lifeline, outlive, wait_for
from fastinfer.engines.llama.binding import VERSION
from fastinfer.engines.llama.classify_config import LlamaClassifyConfig, context_shape, threads_of_workers
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.devices import placement
from fastinfer.engines.llama.forward import ForwardPass
from fastinfer.engines.llama.model import LlamaModel, RenderedPrompt
from fastinfer.engines.llama.vision import ImageEncoder, Prepared
from fastinfer.engines.watchdog import Watch
from fastinfer.errors import EngineDeadError, FastInferError, PromptTooLongError
from fastinfer.images.prepared import EngineImage, PreparedImage
from fastinfer.interrupts import Answer, Deferral

__all__ = ["LlamaClassifyEngine"]

_log = logging.getLogger(__name__)

#: Rendered prompts that are kept; a prompt that names the labels is another one for every label set.
_KEPT_PROMPTS = 64


@dataclass(slots=True)
class _Request:
    pixels: npt.NDArray[np.uint8]
    task: Task
    future: Future[Scores]
    arrived: float = field(default_factory=time.perf_counter)


class LlamaClassifyEngine(EngineHandle):
    """llama.cpp with a vision encoder, for classification.

    Args:
        config: files and sizes.

    Raises:
        ModelLoadError: a file cannot be loaded.
        EngineOutOfMemoryError: the KV cache cannot be allocated.
    """

    def __init__(self, config: LlamaClassifyConfig) -> None:
        with Deferral() as interrupts:  # llama.cpp logs through Python while it loads, which would lose Ctrl-C
            self._batches = _Core(config, interrupts.heed)
            super().__init__(self._batches)

    @property
    def group_size(self) -> int:
        """The most images of a batch."""
        return self._batches.group_size

    def submit_together(self, images: Sequence[EngineImage], task: Task) -> list[Future[Scores]]:
        """Queue at most ``group_size`` images as a batch of their own. Safe from any thread.

        Their scores are bit for bit the same whenever the same images are queued together in the same order: what
        else is computed, by which worker and with how many threads makes no difference.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        self.check_process()
        with Deferral():
            return self._batches.submit_together(images, task)


class _Core:
    def __init__(self, config: LlamaClassifyConfig, heed: Callable[[], None]) -> None:
        self._config = config
        self._condition = threading.Condition()
        self._queue: deque[_Request] = deque()
        self._busy = 0
        self.life = Lifeline()
        self._free_by: threading.Thread | None = None
        self._freed = False
        self._batches: dict[_Worker, list[_Request]] = {}
        #: Threads whose batch hangs; the last of them to go on after all frees the memory, where the engine was closed.
        self._hanging: set[threading.Thread] = set()
        self._free_late = False
        self._prompts: dict[tuple[str, str], RenderedPrompt] = {}
        on_gpu = config.n_gpu_layers != 0
        with ExitStack() as undo:
            self._model = LlamaModel(config.model, n_gpu_layers=placement(None, config.n_gpu_layers)["n_gpu_layers"])
            undo.callback(self._model.close)
            heed()
            self._model.render("")  # a model without a usable chat template fails here, not at the first image
            self._workers: list[_Worker] = []
            for threads in threads_of_workers(config):
                worker = _Worker(self._model, config, threads)
                undo.callback(worker.close)
                self._workers.append(worker)
                heed()
            #: Takes an image that is alone, with all threads, so that one image does not wait for one core.
            self._soloist = self._workers[-1] if config.workers > 1 else None
            self._free = undo.pop_all()
        self.description = EngineDescription(
            engine=f"llama.cpp (llama-cpp-python {VERSION})",
            device="GPU" if on_gpu else "CPU",
            image_size=config.image_size,
            batched_images=config.image_tokens is not None,
        )
        self._threads = [
            threading.Thread(target=self._run, args=(worker,), name=f"fastinfer-llama-{i}", daemon=True)
            for i, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def _render(self, text: str, opening: str = "") -> RenderedPrompt:
        prompt = self._prompts.get((text, opening))
        if prompt is None:
            if len(self._prompts) >= _KEPT_PROMPTS:
                del self._prompts[next(iter(self._prompts))]
            prompt = self._prompts[text, opening] = self._model.render(text, opening)
        return prompt

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        with self._condition:
            self.life.check()
            return self._model.tokenize(self._render(prompt).lead + label)

    @property
    def group_size(self) -> int:
        return self._config.batch_images

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        (future,) = self._submit([image], task)
        return future

    def submit_together(self, images: Sequence[EngineImage], task: Task) -> list[Future[Scores]]:
        assert len(images) <= self._config.batch_images
        # A task of its own keeps other images out of the batch; what is remembered of tasks goes by their content.
        return self._submit(images, replace(task, whole=True))

    def _submit(self, images: Sequence[EngineImage], task: Task) -> list[Future[Scores]]:
        requests = []
        for image in images:
            assert not isinstance(image, PreparedImage)
            requests.append(_Request(np.ascontiguousarray(image), task, Answer()))
        with self._condition:
            self.life.check()
            self._queue += requests
            self._condition.notify_all()
        return [request.future for request in requests]

    def close(self) -> None:
        with Deferral(), self._condition:
            self.life.closed = True
            waiting, self._queue = self._queue, deque()
            self._condition.notify_all()
        fail_all((request.future for request in waiting), None)
        me = threading.current_thread()
        for thread in self._threads:
            if thread is not me:
                wait_for(thread, partial(self._hanging.__contains__, thread))
        # Not before: where Ctrl-C ends the wait for the threads, the next call frees.
        with Deferral():
            with self._condition:
                first, self._freed = not self._freed, True
                hangs = bool(self._hanging)
                self._free_late = self._free_late or (first and hangs)
            if not first or hangs:
                return
            if me in self._threads:
                # The garbage collector runs in any thread, also in a worker's in the middle of a batch.
                self._free_by = me
                outlive(me)
            else:
                self._free.close()

    def _run(self, worker: _Worker) -> None:
        self._work(worker)
        me = threading.current_thread()
        with self._condition:
            self._hanging.discard(me)
            frees = self._free_by is me or (self._free_late and not self._hanging)
        if frees:
            self._free.close()

    def _work(self, worker: _Worker) -> None:
        watch = Watch(self.life, partial(self._give_up, worker))
        while batch := self._next_batch(worker):
            self._batches[worker] = batch
            watch.begin(f"A batch of {len(batch)} images")
            try:
                with self._condition:
                    prompt = self._render(batch[0].task.prompt, batch[0].task.opening)
                worker.classify(batch, prompt)
            except BaseException as error:  # noqa: BLE001  nobody may be left waiting, whatever happened
                _log.exception("%s: the engine has died.", self.life.alias)
                with self._condition:
                    self.life.dead = error
                    batch += self._queue
                    self._queue.clear()
                    self._condition.notify_all()
                fail_all((request.future for request in batch), error)
                return
            finally:
                watch.end()
                with self._condition:
                    self._busy -= 1
                    self._condition.notify_all()

    def _give_up(self, worker: _Worker, error: EngineDeadError) -> None:
        """A batch hangs: those who wait are told, from another thread than the one that hangs."""
        with self._condition:
            self._hanging.add(self._threads[self._workers.index(worker)])
            waiting = [*self._batches[worker], *self._queue]
            self._queue.clear()
            self._condition.notify_all()
        fail_hung((request.future for request in waiting), error)

    def _next_batch(self, worker: _Worker) -> list[_Request]:
        """The oldest request and others of the same task, in order; empty once the engine is closed."""
        with self._condition:
            while not self.life.closed and self.life.dead is None:
                if self._queue and self._is_turn_of(worker):
                    if batch := self._take():
                        self._busy += 1
                        return batch
                else:
                    self._condition.wait()
        return []

    def _is_turn_of(self, worker: _Worker) -> bool:
        alone = self._soloist is not None and len(self._queue) == 1 and self._busy == 0
        return alone == (worker is self._soloist)

    def _take(self) -> list[_Request]:
        # A short queue is shared out among the workers; a long one gives each a full batch.
        most = self._config.batch_images
        if not self._queue[0].task.whole:
            most = min(most, -(-len(self._queue) // self._config.workers))
        return take_batch(self._queue, most)


class _Worker:
    """One context with its image encoder; used by one thread."""

    def __init__(self, model: LlamaModel, config: LlamaClassifyConfig, n_threads: int) -> None:
        self._n_ctx, self._n_ubatch = config.n_ctx, min(config.n_batch, config.n_ubatch)
        self._context = LlamaContext(model, context_shape(config), n_threads=n_threads)
        try:
            self._encoder = ImageEncoder(
                config.projector,
                model,
                n_threads=n_threads,
                use_gpu=config.n_gpu_layers != 0,
                flash_attn=config.flash_attn,
                batch_tokens=config.batch_images * (config.image_tokens or 1),
            )
        except FastInferError:
            self._context.close()
            raise
        self._forward = ForwardPass(model, self._context, self._encoder)

    def close(self) -> None:
        self._encoder.close()
        self._context.close()

    def classify(self, batch: list[_Request], prompt: RenderedPrompt) -> None:
        """Answer every request of a batch that shares a task."""
        task = batch[0].task
        started = time.perf_counter()
        with ExitStack() as stack:
            ready: list[tuple[_Request, Prepared]] = []
            for request in batch:
                try:
                    prepared = stack.enter_context(self._encoder.prepare(prompt, request.pixels))
                    self._check_fits(prepared, task)
                except FastInferError as error:
                    fail(request.future, error)
                else:
                    ready.append((request, prepared))
            for group in self._forward.groups([p for _, p in ready], task):
                members, ready = ready[: len(group)], ready[len(group) :]
                self._score(members, task, started)

    def _check_fits(self, prepared: Prepared, task: Task) -> None:
        limit = self._forward.prompt_limit(task)
        if prepared.n_tokens > limit:
            raise PromptTooLongError(
                f"The prompt with its image takes {prepared.n_tokens} tokens, and {limit} fit beside the answers.",
                tokens=prepared.n_tokens,
                limit=limit,
                hint=f"Raise n_ctx (now {self._n_ctx}), shorten the prompt or the labels, or use smaller images.",
            )
        largest = max((c.n_tokens for c in prepared.chunks if c.tokens is None), default=0)
        self._encoder.check_at_once(largest, self._n_ubatch)

    def _score(self, members: list[tuple[_Request, Prepared]], task: Task, started: float) -> None:
        begun = time.perf_counter()
        try:
            images = [p for _, p in members]
            self._forward.encode(images)
            encoded = time.perf_counter()
            results = self._forward.name(images, task) if task.trie is None else self._forward.score(images, task.trie)
        except FastInferError as error:
            self._forward.reset()
            for request, _ in members:
                fail(request.future, error)
            return
        count = len(members)
        encode_ms, score_ms = (encoded - begun) * 1e3 / count, (time.perf_counter() - encoded) * 1e3 / count
        for (request, prepared), (labels, naming) in zip(members, results, strict=True):
            scores = Scores(
                labels=labels,
                naming=naming,
                queued_ms=(started - request.arrived) * 1e3,
                encode_ms=encode_ms,
                score_ms=score_ms,
                batch=count,
                prompt_tokens=prepared.n_tokens,
            )
            answer(request.future, scores)
