"""The engine's steps: admit, evaluate, choose, publish. One thread runs them and owns context, memory and samplers.

A step is one llama_decode: the next token of every running reply first, then a budget of prompt tokens, so that a long
prompt never stalls the others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

from fastinfer.engines.chat import Delta
from fastinfer.engines.llama.chat.batch import Filled, Part, fill
from fastinfer.engines.llama.chat.budget import PromptBudget, RowPadding, share, share_apart
from fastinfer.engines.llama.chat.choosing import ParallelSampling
from fastinfer.engines.llama.chat.counters import Counters
from fastinfer.engines.llama.chat.failures import no_numbers, no_room, refused
from fastinfer.engines.llama.chat.memory import UnifiedMemory
from fastinfer.engines.llama.chat.partitions import PartitionedMemory
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.chat.sampler import Candidates, TokenSampler
from fastinfer.engines.llama.chat.viewer import Viewer
from fastinfer.engines.llama.context import LlamaContext, decode_error
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.errors import FastInferError, RequestCancelledError, RequestTimeoutError

__all__ = ["ChatLoop"]

_log = logging.getLogger(__name__)

#: Cells left free for each running reply when a request is admitted, so that it is not preempted at once.
_HEADROOM = 16
#: Seconds between looks at the deadlines of requests that wait.
_SWEEP = 0.02


class ChatLoop:
    """Runs requests in slots. Every method is for the engine's thread.

    Args:
        model, context, memory: what it owns from now on.
        pieces: bytes of every token.
        slots: requests that run side by side.
        cut: candidates that the device leaves of a row; 0 none.
        budget, padding: the policies of a step.
        sampling: threads for samplers.
        viewer: evaluates images; None where the model takes none.
    """

    def __init__(
        self,
        model: LlamaModel,
        context: LlamaContext,
        memory: UnifiedMemory | PartitionedMemory,
        *,
        pieces: Sequence[bytes],
        slots: int,
        cut: int,
        budget: PromptBudget,
        padding: RowPadding,
        sampling: ParallelSampling,
        viewer: Viewer | None = None,
    ) -> None:
        self._model, self._context, self._memory = model, context, memory
        self.pieces, self._cut = pieces, cut
        self._budget, self._padding, self._viewer = budget, padding, viewer
        self._sampling = sampling
        self._candidates = Candidates(model.vocabulary_size)
        self._ends = frozenset(int(t) for t in model.end_tokens)
        self._swept = 0.0
        self._turn = 0
        #: What sinks are to be told, in order.
        self._outbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        #: Tell them while the device computes the next step. Not where launching it takes all its time, as on a CPU.
        self._publishes_late = False
        self.slots: list[Request | None] = [None] * slots
        self.queue: deque[Request] = deque()
        self.counters = Counters()

    @property
    def running(self) -> list[Request]:
        """Requests in slots, in order of arrival."""
        return sorted((r for r in self.slots if r is not None), key=lambda r: r.number)

    @property
    def cells(self) -> tuple[int, int]:
        """Cells of the KV cache, and how many of them hold tokens; may be asked by any thread."""
        return self._memory.size, self._memory.used

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.queue and all(r is None for r in self.slots)

    def step(self) -> None:
        """Do one step, if there is anything to do."""
        begun = time.perf_counter()
        self._sweep()
        self._admit()
        if self._viewer is not None:
            begun += self._look(self._viewer)
        parts, decoding = self._plan()
        if not parts:
            self._publish()
            return
        counters = self.counters
        before = counters.decode_seconds + counters.wait_seconds
        prompt = sum(count for _, count in parts[decoding:])
        self._evaluate(parts)
        if not any(self.slots):
            self._publish()
        engine = counters.decode_seconds + counters.wait_seconds - before
        self._budget.observe(decoding, prompt, engine)
        seconds = time.perf_counter() - begun
        counters.step_seconds += seconds
        counters.busy += len(parts)
        of_prompts = seconds * prompt / (prompt + decoding)
        counters.prompt_seconds += of_prompts
        counters.predicted_seconds += seconds - of_prompts

    def fail_all(self, error: Exception) -> None:
        """Fail every request, running or waiting, for good: the loop cannot be used afterwards."""
        requests = [*self.running, *self.queue]
        self.slots[:] = [None] * len(self.slots)
        self.queue.clear()
        # Nothing is evaluated any more, and the cache may be in any state: it stays as it is.
        for request in requests:
            request.slot = -1
            self._fail(request, error)
        self._publish()

    def calibrate(self, most: int, repeats: int = 2) -> None:
        """Measure a step with 1 to ``most`` rows, pad to the rows that are best from then on, and see who computes."""
        seconds = []
        launching = waiting = 0.0
        for count in range(1, most + 1):
            surplus = self._memory.idle_rows(count)
            fill(self._context.rows, [], surplus)
            times = []
            for _ in range(1 + repeats):
                begun = time.perf_counter()
                if self._context.decode(count):
                    return
                launched = time.perf_counter()
                self._context.wait()
                times.append(time.perf_counter() - begun)
                launching += launched - begun
                waiting += time.perf_counter() - launched
                for sequence, position in surplus:
                    self._context.remove(sequence, position, -1)
            seconds.append(min(times[1:]))
        self._padding.learn(seconds)
        self._publishes_late = launching < waiting

    def _publish(self) -> None:
        """Tell sinks what there is to tell."""
        while self._outbox:
            deliver, what = self._outbox.popleft()
            deliver(what)

    def _sweep(self) -> None:
        """Drop what was cancelled or has run out of time."""
        now = time.monotonic()
        for request in self.slots:
            if request is not None and request.is_over(now):
                self._drop(request)
        if now - self._swept >= _SWEEP:
            self._swept = now
            for request in [r for r in self.queue if r.is_over(now)]:
                self.queue.remove(request)
                self._drop(request)

    def _drop(self, request: Request) -> None:
        if request.cancelled:
            self.counters.cancelled += 1
            self._leave(request, keep=True)
            error: FastInferError = RequestCancelledError(
                f"The request was cancelled after {request.predicted} tokens."
            )
        else:
            where = f"after {request.predicted} tokens" if request.slot >= 0 else "while it waited for a slot"
            self.counters.failed += 1
            self._leave(request, keep=True)
            error = RequestTimeoutError(
                f"The request ran out of time {where}.", hint="Raise timeout, or lower max_tokens."
            )
            self.counters.errors.add(error)
        self._outbox.append((request.sink.fail, error))

    def _admit(self) -> None:
        while self.queue and None in self.slots:
            request = self.queue[0]
            running = self.running
            try:
                if request.sampler is None:
                    self._start(request)
                free = [slot for slot, taken in enumerate(self.slots) if taken is None]
                request.slot = self._memory.choose(request, free)
                request.sequence = self._memory.sequence(request.slot, request.sampler)
                if not self._memory.admit(request, running, _HEADROOM * (len(running) + 1) if running else 0):
                    request.slot = request.sequence = -1
                    return
            except FastInferError as error:
                self.queue.popleft()
                request.slot = request.sequence = -1
                self._fail(request, error)
                continue
            self.queue.popleft()
            self.slots[request.slot] = request
            if not request.preempted:
                request.cached = request.done
                self.counters.cached_tokens += request.done
                self.counters.queue.add(request.admitted - request.arrived)

    def _start(self, request: Request) -> None:
        generation = request.generation
        request.sampler = TokenSampler(
            self._model,
            generation.sampling,
            generation.tokens if request.pictures is None else generation.tokens[generation.tokens >= 0],
            limit=request.limit,
            grammar=generation.grammar,
            logprobs=generation.logprobs,
            device_cut=self._cut,
        )
        request.start()

    def _plan(self) -> tuple[list[Part], int]:
        """The parts of the next step, and how many of them are replies; these come first."""
        while True:
            running = self.running
            replies = [r for r in running if r.is_decoding]
            prompts = [r for r in running if not r.is_decoding and r.leader is None and r.ready]
            parts: list[Part] = [(r, 1) for r in replies]
            if prompts:
                ready = [r.ready for r in prompts]
                budget = self._budget.tokens(len(replies), ready)
                self._turn += budget > 0
                if self._memory.dense:
                    tokens = share_apart(ready, budget, [r.sequence for r in prompts], self._turn)
                else:
                    tokens = share(ready, budget)
                parts += [(r, count) for r, count in zip(prompts, tokens, strict=True) if count]
            if self._memory.make_room(sum(count for _, count in parts)):
                return parts, len(replies)
            # The oldest always gets on, so that all get their turn.
            if len(running) == 1:
                return [(running[0], min(running[0].ready, self._memory.free))], len(replies)
            self._preempt(running[-1])

    def _look(self, viewer: Viewer) -> float:
        """Evaluate images, or pieces of them, that come next in prompts; the seconds it took."""
        begun = time.perf_counter()
        while waiting := [r for r in self.running if r.leader is None and r.is_at_picture]:
            self._publish()
            replies = sum(r is not None and r.is_decoding for r in self.slots)
            parts = viewer.plan(waiting, self._budget.tokens(replies, [r.pending for r in waiting]))
            if not self._memory.make_room(sum(count for _, count in parts)) and len(running := self.running) > 1:
                self._preempt(running[-1])
                continue
            failed = viewer.encode(parts)
            for request, error in failed:
                self._fail(request, error)
            self.counters.decode_seconds += time.perf_counter() - begun
            if parts := [part for part in parts if part[0].slot >= 0]:
                self._evaluate(parts)
                self.counters.busy += len(parts)
            break
        else:
            return 0.0
        seconds = time.perf_counter() - begun
        self.counters.step_seconds += seconds
        self.counters.prompt_seconds += seconds
        return seconds

    def _preempt(self, request: Request) -> None:
        """Take a request's room; it goes on later from where it was."""
        _log.debug("Request %d gives up its room after %d tokens.", request.number, request.predicted)
        self._pass_on(request)
        self._memory.release(request)
        self.slots[request.slot] = None
        request.slot = request.sequence = -1
        request.leader = None
        request.preempted += 1
        self.counters.preempted += 1
        self.queue.appendleft(request)

    def _evaluate(self, parts: list[Part]) -> None:
        """Evaluate parts, and choose the next token of each that is complete."""
        code, filled = self._decode(parts)
        if code == 0:
            self._commit(filled)
        elif code == 1:
            self._evaluate_with_less(parts)
        elif code == 2:
            # Some micro-batches may have been computed before it was aborted: back to where each part began.
            for request, _ in parts:
                held, position = self._context.last_position(request.sequence) + 1, request.position(request.done)
                whole = request.whole(request.done) == request.done and (
                    held == position or (held > position and self._context.remove(request.sequence, position, -1))
                )
                if not whole:
                    self._memory.release(request)
        elif code == -1:
            if len(parts) == 1:
                self._fail(parts[0][0], refused())
            else:
                self._evaluate_halves(parts)
        else:
            error = decode_error(code, "The replies that were running are lost: llama.cpp failed to compute a step")
            for request in self.running:
                self._fail(request, error)
            self._context.clear()
            self._memory.forget_all()

    def _decode(self, parts: list[Part]) -> tuple[int, Filled]:
        if self._viewer is not None and parts[0][0].is_at_picture:
            return self._decode_pictures(self._viewer, parts)
        chunks = sum(count for _, count in parts) - len(parts)
        surplus = self._memory.surplus(parts, self._padding if not chunks or self._memory.dense else None)
        filled = fill(self._context.rows, parts, surplus)
        if chunks or not self._publishes_late:
            self._publish()
        begun = time.perf_counter()
        code = self._context.decode(filled.count)
        launched = time.perf_counter()
        self._publish()
        if code == 0:
            self._context.wait()
        counters = self.counters
        counters.decode_seconds += launched - begun
        counters.wait_seconds += time.perf_counter() - launched
        counters.steps += 1
        for sequence, position in surplus:
            self._context.remove(sequence, position, -1)
        return code, filled

    def _decode_pictures(self, viewer: Viewer, parts: list[Part]) -> tuple[int, Filled]:
        begun = time.perf_counter()
        code, filled = viewer.decode(parts)
        self.counters.decode_seconds += time.perf_counter() - begun
        self.counters.steps += 1
        return code, filled

    def _commit(self, filled: Filled) -> None:
        chosen: list[tuple[Request, int]] = []
        for request, count, row in filled.last:
            self._memory.extend(request, count)
            request.done += count
            if request.predicted == 0:
                self.counters.prompt_tokens += count
            if request.done == request.length:
                chosen.append((request, row))
        for follower in self.slots:
            if follower is not None and follower.leader is not None:
                self._follow(follower)
        for request, row, token in self._sampled(chosen):
            self._choose(request, row, token)
        if not self._publishes_late:
            self._publish()

    def _sampled(self, chosen: list[tuple[Request, int]]) -> list[tuple[Request, int, int | None]]:
        """The tokens of those whose samplers may run side by side; None for the others."""
        begun = time.perf_counter()
        plain = [
            (i, request.sampler, row)
            for i, (request, row) in enumerate(chosen)
            if request.sampler is not None and not request.follows_grammar
        ]
        tokens = self._sampling.tokens(self._context, [(sampler, row) for _, sampler, row in plain])
        found: list[int | None] = [None] * len(chosen)
        if tokens is not None:
            for (i, _, _), token in zip(plain, tokens, strict=True):
                found[i] = token
            self.counters.sample_seconds += time.perf_counter() - begun
        return [(request, row, token) for (request, row), token in zip(chosen, found, strict=True)]

    def _follow(self, follower: Request) -> None:
        before = follower.done
        self._memory.follow(follower)
        if not follower.preempted:
            follower.cached += follower.done - before
            self.counters.cached_tokens += follower.done - before

    def _pass_on(self, leader: Request) -> None:
        """A request leaves: those that wait for its prompt copy what there is, and the first of them goes on."""
        heirs = [r for r in self.running if r.leader is leader]
        wanted = [r.leader_length for r in heirs]
        for heir, length in zip(heirs, wanted, strict=True):
            heir.leader_length = min(length, leader.done)
            self._follow(heir)
            if (common := min(length, wanted[0])) > heir.done and heir is not heirs[0]:
                heir.leader, heir.leader_length = heirs[0], common

    def _evaluate_with_less(self, parts: list[Part]) -> None:
        """llama.cpp found no room for a batch: try again with less, or with others' room."""
        if self._memory.drop_kept():
            self._evaluate(parts)
        elif len(parts) > 1:
            self._evaluate_halves(parts)
        else:
            request, count = parts[0]
            running = self.running
            if count > 1 and not (self._viewer is not None and request.is_at_picture and not self._viewer.cuts):
                self._evaluate([(request, count // 2)])
            elif len(running) > 1:
                # The youngest, even if it is this one: the oldest always gets on. At once, because in the next step the
                # others are back.
                self._preempt(running[-1])
                if request.slot >= 0:
                    self._evaluate(parts)
            else:
                self._fail(request, no_room())

    def _evaluate_halves(self, parts: list[Part]) -> None:
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            # What happened to the first half may have taken requests of the second out of their slots.
            if left := [part for part in half if part[0].slot >= 0]:
                self._evaluate(left)

    def _choose(self, request: Request, row: int, token: int | None) -> None:
        """Choose a request's next token, unless that is done, and publish what it adds to the reply."""
        sampler, text = request.sampler, request.text
        assert sampler is not None
        begun = time.perf_counter()
        if not self._cut and isnan(self._context.score(row, token or 0)):
            # Whatever else is kept may hold such numbers too, and would pass them on.
            self._memory.drop_kept()
            self._fail(request, no_numbers())
            return
        if token is None and request.follows_grammar:
            try:
                token = sampler.sample_within(self._context, row, self._candidates, request.opening)
            except FastInferError as error:
                self._fail(request, error)
                return
        elif token is None:
            token = sampler.sample(self._context, row)
        logprob = sampler.logprob(self._context, row, token)
        now = time.perf_counter()
        counters = self.counters
        counters.sample_seconds += now - begun
        counters.predicted_tokens += 1
        if request.predicted:
            counters.between_tokens.add(now - request.last)
        else:
            counters.first_token.add(now - request.arrived)
        ended = token in self._ends
        request.add(token, now)
        new = "" if ended else text.push(request.seen(self.pieces[token]))
        stopped = ended or text.stopped is not None
        logprobs = () if logprob is None else (logprob,)
        if stopped or request.is_full:
            new += text.finish()
        if new or logprobs:
            self._outbox.append((request.sink.put, Delta(new, logprobs)))
        if stopped or request.is_full:
            counters.finished += 1
            counters.whole.add(now - request.arrived)
            counters.most_tokens = max(counters.most_tokens, request.length)
            # What was held back at the end may have been a stop string.
            outcome = request.outcome(text.stopped, ended=stopped or text.stopped is not None)
            self._leave(request, keep=True)
            self._outbox.append((request.sink.finish, outcome))

    def _fail(self, request: Request, error: Exception) -> None:
        self.counters.failed += 1
        self.counters.errors.add(error)
        self._leave(request)
        self._outbox.append((request.sink.fail, error))

    def _leave(self, request: Request, *, keep: bool = False) -> None:
        """Give back a request's slot and samplers; what it has evaluated is kept for others, or forgotten."""
        if request.slot >= 0:
            self._pass_on(request)
            if keep:
                self._memory.retire(request)
            else:
                self._memory.release(request)
            self.slots[request.slot] = None
            request.slot = request.sequence = -1
        if request.sampler is not None:
            request.sampler.close()
        if request.pictures is not None:
            request.pictures.close()
