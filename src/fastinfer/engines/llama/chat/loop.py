"""The engine's steps: admit, evaluate, choose, publish. One thread runs them and owns context, memory and samplers.

A step is one llama_decode: the next token of every running reply first, then a budget of prompt tokens, so that a long
prompt never stalls the others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from fastinfer.engines.chat import Delta
from fastinfer.engines.llama.chat.budget import PromptBudget, RowPadding, share
from fastinfer.engines.llama.chat.counters import Counters
from fastinfer.engines.llama.chat.memory import UnifiedMemory
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.chat.sampler import Candidates, TokenSampler
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.errors import EngineError, FastInferError, RequestCancelledError, RequestTimeoutError

__all__ = ["ChatLoop"]

_log = logging.getLogger(__name__)

#: Cells left free for each running reply when a request is admitted, so that it is not preempted at once.
_HEADROOM = 16
#: Seconds between looks at the deadlines of requests that wait.
_SWEEP = 0.02

#: A request, and how many of its pending tokens a step evaluates.
Part = tuple[Request, int]


class ChatLoop:
    """Runs requests in slots. Every method is for the engine's thread.

    Args:
        model, context, memory: what it owns from now on.
        pieces: bytes of every token.
        slots: requests that run side by side.
        cut: candidates that the device leaves of a row, for sequences 0 to ``slots`` - 1; 0 none.
        scratch: a sequence id for rows that nobody reads.
        budget, padding: the policies of a step.
    """

    def __init__(
        self,
        model: LlamaModel,
        context: LlamaContext,
        memory: UnifiedMemory,
        *,
        pieces: Sequence[bytes],
        slots: int,
        cut: int,
        scratch: int,
        budget: PromptBudget,
        padding: RowPadding,
    ) -> None:
        self._model, self._context, self._memory = model, context, memory
        self.pieces, self._cut, self._scratch = pieces, cut, scratch
        self._budget, self._padding = budget, padding
        self._candidates = Candidates(model.vocabulary_size)
        self._ends = frozenset(int(t) for t in model.end_tokens)
        self._swept = 0.0
        self.slots: list[Request | None] = [None] * slots
        self.queue: deque[Request] = deque()
        self.counters = Counters()

    @property
    def running(self) -> list[Request]:
        """Requests in slots, in order of arrival."""
        return sorted((r for r in self.slots if r is not None), key=lambda r: r.number)

    @property
    def is_idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.queue and all(r is None for r in self.slots)

    def step(self) -> None:
        """Do one step, if there is anything to do."""
        begun = time.perf_counter()
        self._sweep()
        self._admit()
        parts, decoding = self._plan()
        if not parts:
            return
        counters = self.counters
        before = counters.decode_seconds + counters.wait_seconds
        prompt = sum(count for _, count in parts[decoding:])
        self._evaluate(parts)
        engine = counters.decode_seconds + counters.wait_seconds - before
        self._budget.observe(decoding, prompt, engine)
        seconds = time.perf_counter() - begun
        counters.step_seconds += seconds
        counters.busy += len(parts)
        of_prompts = seconds * prompt / (prompt + decoding)
        counters.prompt_seconds += of_prompts
        counters.predicted_seconds += seconds - of_prompts

    def fail_all(self, error: Exception) -> None:
        """Fail every request, running or waiting."""
        for request in [*self.running, *self.queue]:
            self._leave(request)
            request.sink.fail(error)
        self.queue.clear()

    def calibrate(self, most: int, repeats: int = 2) -> None:
        """Measure a step with 1 to ``most`` rows, and pad to the rows that are best from then on."""
        seconds = []
        rows = self._context.rows
        for count in range(1, most + 1):
            rows.tokens[:count], rows.sequences[:count] = 0, self._scratch
            rows.positions[:count], rows.wanted[:count] = np.arange(count), 0
            times = []
            for _ in range(1 + repeats):
                begun = time.perf_counter()
                if self._context.decode(count):
                    return
                self._context.wait()
                times.append(time.perf_counter() - begun)
                self._context.remove(self._scratch)
            seconds.append(min(times[1:]))
        self._padding.learn(seconds)

    def _sweep(self) -> None:
        """Drop what was cancelled or has run out of time."""
        now = time.monotonic()
        for request in self.slots:
            if request is not None and (request.cancelled or (request.generation.deadline or now) < now):
                self._drop_if_over(request, now)
        if now - self._swept >= _SWEEP:
            self._swept = now
            for request in [r for r in self.queue if r.cancelled or (r.generation.deadline or now) < now]:
                self.queue.remove(request)
                self._drop_if_over(request, now)

    def _drop_if_over(self, request: Request, now: float) -> None:
        deadline = request.generation.deadline
        if request.cancelled:
            self.counters.cancelled += 1
            self._leave(request, keep=True)
            request.sink.fail(RequestCancelledError(f"The request was cancelled after {request.predicted} tokens."))
        elif deadline is not None and deadline < now:
            where = f"after {request.predicted} tokens" if request.slot >= 0 else "while it waited for a slot"
            self.counters.failed += 1
            self._leave(request, keep=True)
            request.sink.fail(
                RequestTimeoutError(f"The request ran out of time {where}.", hint="Raise timeout, or lower max_tokens.")
            )

    def _admit(self) -> None:
        while self.queue and None in self.slots:
            request = self.queue[0]
            running = self.running
            try:
                if request.sampler is None:
                    self._start(request)
                request.slot = self.slots.index(None)
                raw = self._cut and request.sampler is not None and request.sampler.needs_scores
                request.sequence = request.slot + (len(self.slots) if raw else 0)
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

    def _start(self, request: Request) -> None:
        generation = request.generation
        request.sampler = TokenSampler(
            self._model,
            generation.sampling,
            generation.tokens,
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
            prompts = [r for r in running if not r.is_decoding and r.leader is None]
            parts: list[Part] = [(r, 1) for r in replies]
            if prompts:
                tokens = share([r.pending for r in prompts], self._budget.tokens(len(replies), len(prompts)))
                parts += [(r, count) for r, count in zip(prompts, tokens, strict=True) if count]
            if self._memory.make_room(sum(count for _, count in parts)):
                return parts, len(replies)
            # The oldest always gets on, so that all get their turn.
            if len(running) == 1:
                return [(running[0], min(running[0].pending, self._memory.free))], len(replies)
            self._preempt(running[-1])

    def _preempt(self, request: Request) -> None:
        """Take a request's room; it goes on later from where it was."""
        _log.debug("Request %d gives up its room after %d tokens.", request.number, request.predicted)
        self._memory.release(request)
        self.slots[request.slot] = None
        request.slot = request.sequence = -1
        request.leader = None
        request.preempted += 1
        self.counters.preempted += 1
        self.queue.appendleft(request)

    def _evaluate(self, parts: list[Part]) -> None:
        """Evaluate parts, and choose the next token of each that is complete."""
        code = self._decode(parts)
        if code == 0:
            self._commit(parts)
        elif code == 1:
            self._evaluate_with_less(parts)
        elif code == 2:
            # Some micro-batches may have been computed before it was aborted.
            for request, _ in parts:
                request.done = min(request.done, self._context.last_position(request.sequence) + 1)
        elif code == -1:
            if len(parts) == 1:
                self._fail(parts[0][0], EngineError("llama.cpp refuses to evaluate this request (code -1)."))
            for half in (parts[: len(parts) // 2], parts[len(parts) // 2 :]) if len(parts) > 1 else ():
                self._evaluate(half)
        else:
            error = EngineError(
                f"llama.cpp failed to compute a step (code {code}); the replies that were running are lost.",
                hint="The logger 'fastinfer.llama' says why; memory may be short.",
            )
            for request in self.running:
                self._fail(request, error)
            self._context.clear()
            self._memory.forget_all()

    def _decode(self, parts: list[Part]) -> int:
        rows = self._context.rows
        at = 0
        for request, count in parts:
            end, done = at + count, request.done
            if count == 1:
                rows.tokens[at] = request.tokens[done]
                rows.positions[at] = done
                rows.sequences[at] = request.sequence
            else:
                rows.tokens[at:end] = request.tokens[done : done + count]
                rows.positions[at:end] = np.arange(done, done + count)
                rows.sequences[at:end] = request.sequence
                rows.wanted[at : end - 1] = 0
            rows.wanted[end - 1] = done + count == request.length
            at = end
        count = at
        if len(parts) == at:
            count = self._padding.rows(at)
            if count > at:
                rows.tokens[at:count], rows.sequences[at:count], rows.wanted[at:count] = 0, self._scratch, 0
                rows.positions[at:count] = np.arange(count - at)
        begun = time.perf_counter()
        code = self._context.decode(count)
        launched = time.perf_counter()
        if code == 0:
            self._context.wait()
        counters = self.counters
        counters.decode_seconds += launched - begun
        counters.wait_seconds += time.perf_counter() - launched
        counters.steps += 1
        if count > at:
            self._context.remove(self._scratch)
        return code

    def _commit(self, parts: list[Part]) -> None:
        row = -1
        chosen: list[tuple[Request, int]] = []
        for request, count in parts:
            row += count
            self._memory.extend(request, count)
            request.done += count
            if request.predicted == 0:
                self.counters.prompt_tokens += count
            if request.done == request.length:
                chosen.append((request, row))
        for follower in self.slots:
            if follower is not None and follower.leader is not None:
                self._memory.follow(follower)
        for request, row in chosen:
            self._choose(request, row)

    def _evaluate_with_less(self, parts: list[Part]) -> None:
        """llama.cpp found no room for a batch: try again with less, or with others' room."""
        if self._memory.drop_kept():
            self._evaluate(parts)
        elif len(parts) > 1:
            for half in (parts[: len(parts) // 2], parts[len(parts) // 2 :]):
                # A half may have lost its room to the other.
                self._evaluate([p for p in half if p[0].slot >= 0])
        elif parts:
            request, count = parts[0]
            others = [r for r in self.running if r is not request]
            if count > 1:
                self._evaluate([(request, count // 2)])
            elif others:
                self._preempt(others[-1])
            else:
                self._fail(request, EngineError("llama.cpp has no room for this request, though nothing else runs."))

    def _choose(self, request: Request, row: int) -> None:
        """Choose a request's next token and publish what it adds to the reply."""
        sampler, text = request.sampler, request.text
        assert sampler is not None
        begun = time.perf_counter()
        if request.follows_grammar:
            token = sampler.sample_within(self._context, row, self._candidates, request.opening)
        else:
            token = sampler.sample(self._context, row)
        logprob = sampler.logprob(self._context, row, token)
        now = time.perf_counter()
        counters = self.counters
        counters.sample_seconds += now - begun
        counters.predicted_tokens += 1
        ended = token in self._ends
        request.add(token, now)
        new = "" if ended else text.push(request.seen(self.pieces[token]))
        stopped = ended or text.stopped is not None
        logprobs = () if logprob is None else (logprob,)
        if stopped or request.is_full:
            new += text.finish()
        if new or logprobs:
            request.sink.put(Delta(new, logprobs))
        if stopped or request.is_full:
            counters.finished += 1
            counters.most_tokens = max(counters.most_tokens, request.length)
            outcome = request.outcome(text.stopped, ended=stopped)
            self._leave(request, keep=True)
            request.sink.finish(outcome)

    def _fail(self, request: Request, error: Exception) -> None:
        self.counters.failed += 1
        self._leave(request)
        request.sink.fail(error)

    def _leave(self, request: Request, *, keep: bool = False) -> None:
        """Give back a request's slot and samplers; what it has evaluated is kept for others, or forgotten."""
        if request.slot >= 0:
            if keep:
                self._memory.retire(request)
            else:
                self._memory.release(request)
            self.slots[request.slot] = None
            request.slot = request.sequence = -1
        if request.sampler is not None:
            request.sampler.close()
