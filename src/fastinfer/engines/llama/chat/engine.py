"""The chat engine: requests in, replies out, one thread that runs them."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from fastinfer.engines.chat import Generation, PlacedImage, Sink, Ticket
from fastinfer.engines.chat_refusals import check_length, queue_full, queue_too_slow
from fastinfer.engines.lifeline import Lifeline, finish_closing, outlive, wait_for
from fastinfer.engines.llama.binding import VERSION, llama
from fastinfer.engines.llama.chat.budget import RowPadding, prompt_budget
from fastinfer.engines.llama.chat.choosing import ParallelSampling
from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.counters import Counters, Occupancy, slot_state
from fastinfer.engines.llama.chat.layout import PADDING, lay_out
from fastinfer.engines.llama.chat.loop import ChatLoop
from fastinfer.engines.llama.chat.memory import UnifiedMemory
from fastinfer.engines.llama.chat.partitions import PartitionedMemory
from fastinfer.engines.llama.chat.pictures import place_pictures
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.chat.viewer import Viewer, open_encoder
from fastinfer.engines.llama.devices import placement, turn_cuda_graphs_off
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.vocabulary import Vocabulary
from fastinfer.engines.watchdog import Watch, told_again
from fastinfer.errors import EngineDeadError
from fastinfer.interrupts import Deferral
from fastinfer.provenance import Adjustment

__all__ = ["LlamaChatEngine"]

_log = logging.getLogger(__name__)

#: Seconds that an idle engine waits for further requests after the first.
_GATHER = 0.002
#: Prompt tokens of a step where prompts are computed apart from replies: fewer take nearly as long.
_LEAST_APART = 512


class _Ticket:
    """A submitted request, to be cancelled by any thread."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def cancel(self) -> None:
        """Drop the request at the engine's next step; its sink fails with RequestCancelledError. Idempotent."""
        # The engine's thread never sleeps while a request is left, and a lock could be held by this very thread where
        # the garbage collector calls.
        self._request.cancelled = True


class LlamaChatEngine:
    """llama.cpp with several conversations side by side. Every method may be called from any thread.

    Args:
        config: files, sizes and policies.

    Raises:
        ModelLoadError: the file cannot be loaded.
        EngineUnavailableError: there is no such device.
        EngineOutOfMemoryError: the KV cache cannot be allocated.
    """

    def __init__(self, config: LlamaChatConfig) -> None:
        with Deferral() as interrupts:  # llama.cpp logs through Python while it loads, which would lose Ctrl-C
            self._core = _Core(config, interrupts.heed)
            # The thread refers to the core alone, so an engine that is dropped is collected, and closed by this.
            self._finalizer = weakref.finalize(self, finish_closing, self._core.close)
        self.name = f"llama.cpp (llama-cpp-python {VERSION})"
        #: Most tokens of a prompt with its reply.
        self.limit = self._core.limit
        #: What differs from what was asked for.
        self.adjustments = self._core.adjustments
        #: Prompts may hold images.
        self.takes_images = self._core.encoder is not None
        #: How replies are computed, for provenance.
        self.kernel_path = self._core.kernel_path

    @contextmanager
    def vocabulary(self) -> Iterator[Vocabulary]:
        """The model's vocabulary, which stays loaded within the ``with`` block.

        Raises:
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        with self._core.in_use():
            yield self._core.vocabulary

    def show(self, tokens: Sequence[str]) -> None:
        """Let these special tokens be part of replies' text, such as ``"<think>"``; before the first request."""
        self._core.show(tuple(tokens))

    def place(self, generation: Generation, images: Sequence[PlacedImage]) -> Generation:
        """A generation with images in its prompt, preprocessed here and now; for an engine that ``takes_images``.

        Returns:
            one whose ``tokens`` have an entry for each cell of the KV cache; to be submitted once.

        Raises:
            ImageDecodeError: the model's preprocessing refuses an image.
            PromptTooLongError: the model has to see an image at once that takes more tokens than are computed at once.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        return self._core.place(generation, images)

    def submit(self, generation: Generation, sink: Sink, *, wait: bool = False) -> Ticket:
        """Queue a generation; what becomes of it goes to the sink.

        Args:
            generation: the prompt and its options.
            sink: where the reply goes.
            wait: wait while the queue is full.

        Raises:
            MessageError: the prompt has no tokens.
            PromptTooLongError: the prompt leaves no room for a reply, however little else runs.
            QueueFullError: the queue is full, and ``wait`` is false.
            RequestTimeoutError: the queue was full until the deadline.
            EngineDeadError: the engine was closed, has died, or belongs to another process.
        """
        return self._core.submit(generation, sink, wait)

    def slots(self) -> list[dict[str, Any]]:
        """What each slot does, under llama-server's field names."""
        return self._core.slots()

    def metrics(self) -> dict[str, float]:
        """Counters and gauges under llama-server's names."""
        return self._core.metrics()

    @property
    def counters(self) -> Counters:
        """What has been done so far; goes on to count, and is still there when the engine is gone."""
        return self._core.counters

    def occupancy(self) -> Occupancy:
        """Its slots, and how much of the KV cache is used."""
        return self._core.occupancy()

    def profile(self) -> dict[str, float]:
        """Where the steps' time went: ``steps``, and seconds in llama.cpp and in all."""
        return self._core.profile()

    def go_by(self, alias: str) -> None:
        """Be called so in logs."""
        self._core.go_by(alias)

    def limit_steps(self, seconds: float) -> None:
        """Count as hanging, and as dead, where a step takes longer."""
        self._core.limit_steps(seconds)

    def check_process(self) -> None:
        """Refuse work in another process than the engine's own; takes no lock.

        Raises:
            EngineDeadError: the process was forked after the engine was created.
        """
        self._core.check_process()

    def close(self) -> None:
        """Fail what runs and waits with EngineDeadError, free all memory. Idempotent, from any thread."""
        self._core.close()
        self._finalizer.detach()


class _Core:
    def __init__(self, config: LlamaChatConfig, heed: Callable[[], None]) -> None:
        self._config = config
        self._condition = threading.Condition()
        self._inbox: deque[Request] = deque()
        self._numbers = itertools.count()
        self._users = self._waiters = 0
        self._frees_itself = self._freed = self._has_ended = False
        self._life = Lifeline()
        with ExitStack() as undo:
            where = placement(config.device, config.n_gpu_layers)
            # Seen with llama.cpp 0c1e57098 on an H200: over a cache that all slots share, CUDA graphs end the process
            # with "illegal instruction" within seconds; over a divided one, or without graphs, that never happened.
            self._without_graphs = config.kv_unified and where["n_gpu_layers"] != 0 and turn_cuda_graphs_off()
            model = LlamaModel(config.model, n_gpu_layers=where["n_gpu_layers"], main_gpu=where.get("main_gpu"))
            undo.callback(model.close)
            heed()
            self.vocabulary = Vocabulary(model)
            slots = config.parallel
            context, memory = lay_out(model, config, undo)
            self.encoder = open_encoder(config, model, undo, on_gpu=where["n_gpu_layers"] != 0)
            sampling = ParallelSampling(config.sampling_threads)
            undo.callback(sampling.close)
            self._loop = ChatLoop(
                model,
                context,
                memory,
                pieces=self.vocabulary.pieces(),
                slots=slots,
                cut=config.device_cut,
                budget=prompt_budget(
                    min(config.n_ubatch, config.n_batch),
                    config.prefill_budget,
                    _LEAST_APART if memory.dense else 0,
                    delay=config.prefill_delay,
                    batch=config.n_batch,
                    apart=memory.dense,
                ),
                padding=RowPadding(),
                sampling=sampling,
                viewer=Viewer(self.encoder, context, min(config.n_ubatch, config.n_batch)) if self.encoder else None,
            )
            if config.calibrate:
                self._loop.calibrate(slots + PADDING[config.kv_unified])
            self._context = context
            heed()
            self._free = undo.pop_all()
        trained = int(llama.llama_model_n_ctx_train(model.handle))
        self.limit = min(memory.limit, trained)
        self.adjustments = tuple(self._adjust(memory, trained))
        self.kernel_path = (
            f"{config.parallel} slots, {'unified' if config.kv_unified else 'partitioned'} KV cache, candidates cut by "
            + ("the device" if config.device_cut else "the CPU")
            + (f", images by {config.projector.name}" if config.projector is not None else "")
        )
        self._watch = Watch(self._life, self._give_up)
        self._thread = threading.Thread(target=self._run, name="fastinfer-chat", daemon=True)
        self._thread.start()

    def _adjust(self, memory: UnifiedMemory | PartitionedMemory, trained: int) -> Iterator[Adjustment]:
        asked = self._config.n_ctx
        if self.limit == trained < memory.limit:
            why = (
                f"a conversation ends at the {trained} tokens the model was trained for; all together may have {asked}"
            )
            yield Adjustment("n_ctx", asked, trained, why)
        if self._config.cache_reuse and not memory.moves:
            why = "this model's memory cannot move tokens to other positions"
            yield Adjustment("cache_reuse", self._config.cache_reuse, 0, why)
        if self._without_graphs:
            why = "over a cache that all slots share, CUDA graphs make llama.cpp end the process"
            yield Adjustment("cuda_graphs", "on", "off", why)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        self.check_process()
        with Deferral():
            with self._condition:
                self._life.check()
                self._users += 1
            try:
                yield
            finally:
                with self._condition:
                    self._users -= 1
                    self._condition.notify_all()

    def show(self, tokens: tuple[str, ...]) -> None:
        with self.in_use():
            self._loop.pieces = self.vocabulary.pieces(visible=tokens)

    def place(self, generation: Generation, images: Sequence[PlacedImage]) -> Generation:
        with self.in_use():
            assert self.encoder is not None
            return place_pictures(
                self.encoder, generation, images, at_once=min(self._config.n_ubatch, self._config.n_batch)
            )

    def submit(self, generation: Generation, sink: Sink, wait: bool) -> _Ticket:
        self.check_process()
        check_length(len(generation.tokens), self.limit, self._config.n_ctx)
        with Deferral() as interrupts, self._condition:
            self._life.check()
            while self._waiting() >= self._config.max_queue:
                if not wait:
                    raise queue_full(self._config.max_queue)
                self._wait_for_room(generation.deadline, interrupts)
                interrupts.heed()
                self._life.check()
            request = Request(generation, sink, next(self._numbers), self.limit)
            self._inbox.append(request)
            self._condition.notify_all()
        return _Ticket(request)

    def _wait_for_room(self, deadline: float | None, interrupts: Deferral) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise queue_too_slow()
        self._waiters += 1
        try:
            self._condition.wait(interrupts.at_most(left))
        finally:
            self._waiters -= 1

    def _waiting(self) -> int:
        """Requests that wait, but for those that free slots will take; below 0 where slots are left even so."""
        free = sum(request is None for request in self._loop.slots)
        return len(self._inbox) + len(self._loop.queue) - free

    def slots(self) -> list[dict[str, Any]]:
        return [slot_state(i, self.limit, request) for i, request in enumerate(list(self._loop.slots))]

    def metrics(self) -> dict[str, float]:
        loop = self._loop
        processing = sum(r is not None for r in list(loop.slots))
        return loop.counters.metrics(processing=processing, deferred=len(loop.queue) + len(self._inbox))

    @property
    def counters(self) -> Counters:
        return self._loop.counters

    def occupancy(self) -> Occupancy:
        cells, used = self._loop.cells
        return Occupancy(len(self._loop.slots), cells, used)

    def profile(self) -> dict[str, float]:
        self.check_process()
        counters = self._loop.counters
        with Deferral(), self._condition:
            reused = self._context.graphs_reused if not self._life.closed else 0
        return counters.profile(graphs_reused=reused)

    def go_by(self, alias: str) -> None:
        self._life.alias = alias

    def limit_steps(self, seconds: float) -> None:
        self._life.step_timeout = seconds

    def check_process(self) -> None:
        self._life.check_process()

    def close(self) -> None:
        if self._life.is_elsewhere:
            return
        with Deferral(), self._condition:
            self._life.closed = True
            self._condition.notify_all()
        if threading.current_thread() is self._thread:
            # The garbage collector runs in any thread, also in this one in the middle of a step.
            self._frees_itself = not self._freed
            outlive(self._thread)
            return
        wait_for(self._thread, lambda: self._life.hangs)
        with Deferral(), self._condition:
            if self._life.hangs and not self._has_ended:
                self._frees_itself = not self._freed
                return
        self._thread.join()
        self._release()

    def _release(self) -> None:
        with Deferral() as interrupts:
            with self._condition:
                while self._users:
                    self._condition.wait(interrupts.at_most(None))
                    interrupts.heed()
                # Not before: where Ctrl-C ends one of the waits, the next call frees.
                first, self._freed = not self._freed, True
            if first:
                self._free.close()

    def _run(self) -> None:
        loop = self._loop
        try:
            while self._receive():
                self._watch.begin("A step of the chat engine")
                loop.step()
                self._watch.end()
            error: Exception = EngineDeadError("The engine was closed before this request was finished.")
        except BaseException as cause:  # noqa: BLE001  nobody may be left waiting, whatever happened
            _log.exception("%s: the engine has died.", self._life.alias)
            with self._condition:
                self._life.dead = cause
            error = EngineDeadError("The engine died while this request was running.", hint="Create a new one.")
            error.__cause__ = cause
        finally:
            self._watch.end()
        if self._life.hangs:
            self._end_late()
            return
        with self._condition:
            loop.queue.extend(self._inbox)
            self._inbox.clear()
            self._condition.notify_all()
        loop.fail_all(error)
        if self._frees_itself:
            self._release()

    def _give_up(self, error: EngineDeadError) -> None:
        """A step hangs: everyone who waits is told, from another thread than the one that hangs."""
        loop = self._loop
        with self._condition:
            waiting = [*(r for r in list(loop.slots) if r is not None), *list(loop.queue), *self._inbox]
            self._inbox.clear()
            self._condition.notify_all()
        for request in waiting:
            loop.counters.failed += 1
            loop.counters.errors.add(error)
            request.sink.fail(told_again(error))

    def _end_late(self) -> None:
        """The step that hung has ended after all: everyone was told, and what is left is to free the memory."""
        with self._condition:
            self._has_ended = True
            frees = self._frees_itself
        if frees:
            self._release()

    def _gather(self) -> None:
        """Wait a moment for others after the first request: prompts that are evaluated together take less time."""
        until = time.monotonic() + _GATHER
        while self._inbox and len(self._inbox) < self._config.parallel and (left := until - time.monotonic()) > 0:
            self._condition.wait(left)

    def _receive(self) -> bool:
        """Take over new requests, wait while there is nothing to do; False once the engine is closed."""
        with self._condition:
            while not self._life.closed and not self._life.hangs:
                if self._inbox:
                    self._loop.queue.extend(self._inbox)
                    self._inbox.clear()
                if self._waiters:
                    self._condition.notify_all()
                if not self._loop.is_idle:
                    return True
                self._condition.wait()
                self._gather()
        return False
