"""Classification on TurboMind: images in flight, one prefill each, and branches of the label trie where they matter.

Images come prepared. From then on one thread owns the requests: it hands them to TurboMind, which batches them by
itself, collects what is ready, reads label scores off the rows, and asks for further rows where labels have several
tokens. TurboMind's prefix cache keeps an image's prompt, so such a row costs a few tokens.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fastinfer.engines.base import EngineDescription, Naming, Scores, Task
from fastinfer.engines.branches import Branch, BranchWalk
from fastinfer.engines.handle import EngineHandle, answer, fail, fail_all, fail_hung
from fastinfer.engines.lifeline import Lifeline, outlive
from fastinfer.engines.scoring import Node
from fastinfer.engines.turbomind.binding import Outcome, Picture, Ticket, TurboMindModel
from fastinfer.engines.turbomind.pictures import Preparation
from fastinfer.engines.turbomind.prompt import PromptMaker, PromptTokens, request_too_long
from fastinfer.engines.turbomind.rows import Rows, Wanted
from fastinfer.engines.watchdog import Watch
from fastinfer.errors import EngineDeadError, EngineError
from fastinfer.images.prepared import EngineImage, PreparedImage
from fastinfer.interrupts import Answer

__all__ = ["TurbomindClassifyEngine"]

_log = logging.getLogger(__name__)

#: Tasks whose prompts are kept; a prompt that names the labels is another one for every label set.
_KEPT_TASKS: Final = 64
#: Seconds that closing waits for TurboMind to give up what it computes.
_PATIENCE: Final = 30.0


class TurbomindClassifyEngine(EngineHandle):
    """One model on one GPU, or split over several.

    Args:
        model: the loaded model; closed with the engine.
        rows: how rows are scored; closed with the engine.
        prompts: its prompts.
        preparation: what is done to its images before they are submitted.
        request_limit: most tokens of a request, image and answer included.
        in_flight: most images handed to TurboMind at once.
        slots: most requests handed to it at once, the further rows of images included; at least ``in_flight``.
        label_tolerance: the most that a label's probability may be off; see :class:`BranchWalk`.
        device: what it computes on, for provenance.
    """

    def __init__(
        self,
        model: TurboMindModel,
        rows: Rows,
        prompts: PromptMaker,
        preparation: Preparation,
        *,
        request_limit: int,
        in_flight: int,
        slots: int,
        label_tolerance: float,
        device: str,
    ) -> None:
        description = EngineDescription(
            engine=f"TurboMind (lmdeploy {model.version})",
            device=device,
            image_size=preparation.image_size,
            batched_images=True,
            preparation=preparation,
            path=rows.path,
        )
        limits = _Limits(request_limit, in_flight, slots, label_tolerance)
        super().__init__(_Core(model, rows, prompts, limits, description))


@dataclass(frozen=True, slots=True)
class _Limits:
    """As the engine's arguments of these names."""

    request: int
    in_flight: int
    slots: int
    tolerance: float


@dataclass(slots=True, eq=False)
class _Prompted:
    """A task's prompt, and what is asked of the rows at each node of its trie."""

    prompt: PromptTokens
    answer_tokens: int
    wanted: dict[int, Wanted] = field(default_factory=dict)
    whole: dict[int, list[int]] = field(default_factory=dict)

    def around(self, image_tokens: int) -> list[int]:
        """The whole prompt for an image of so many tokens; shared by all its images, so not to be changed."""
        found = self.whole.get(image_tokens)
        if found is None:
            found = self.whole[image_tokens] = self.prompt.around(image_tokens)
        return found

    def asks(self, node: Node) -> Wanted:
        found = self.wanted.get(node.index)
        if found is None:
            tokens = np.fromiter(node.children, np.int64, len(node.children))
            found = self.wanted[node.index] = Wanted(tokens)
        return found


@dataclass(slots=True, eq=False)
class _Request:
    """An image on its way; ``waiting`` counts the rows that were asked for and not read."""

    picture: Picture
    task: Task
    prompted: _Prompted
    tokens: list[int]
    future: Future[Scores]
    walk: BranchWalk | None
    arrived: float
    started: float = 0.0
    waiting: int = 1
    batch: int = 1


@dataclass(slots=True, eq=False)
class _Row:
    """What a ticket is for: a branch of the request's trie, or its name where it has none."""

    request: _Request
    branch: Branch | None


class _Stop:
    """Put into the inbox to end the thread."""


_Inbox = queue.SimpleQueue[_Request | Ticket | _Stop]


class _Core:
    def __init__(
        self,
        model: TurboMindModel,
        rows: Rows,
        prompts: PromptMaker,
        limits: _Limits,
        description: EngineDescription,
    ) -> None:
        self.description = description
        self._model, self._rows = model, rows
        self._prompts = prompts
        self._limits = limits
        self.life = Lifeline()
        self._lock = threading.Lock()
        self._inbox: _Inbox = queue.SimpleQueue()
        self._tasks: OrderedDict[Task, _Prompted] = OrderedDict()
        # Only the thread touches these.
        self._images: deque[_Row] = deque()
        self._branches: deque[_Row] = deque()
        self._computing: set[Ticket] = set()
        self._collected: list[tuple[_Row, Outcome]] = []
        self._watch = Watch(self.life, self._give_up)
        self._thread = threading.Thread(target=self._run, name="fastinfer-turbomind", daemon=True)
        self._thread.start()

    def tokenize_label(self, label: str, prompt: str) -> list[int]:
        with self._lock:
            self.life.check()
            return self._prompts.answer(label, self._prompts.render(prompt).lead)

    def submit(self, image: EngineImage, task: Task) -> Future[Scores]:
        arrived = time.perf_counter()
        assert isinstance(image, PreparedImage)
        prompted = self._prompted(task)
        self._check_fits(image.tokens, prompted)
        request = _Request(
            picture=self._model.picture(image, len(prompted.prompt.before)),
            task=task,
            prompted=prompted,
            tokens=prompted.around(image.tokens),
            future=Answer(),
            walk=None if task.trie is None else BranchWalk(task.trie, self._limits.tolerance),
            arrived=arrived,
        )
        with self._lock:
            self.life.check()
            self._inbox.put(request)
        return request.future

    def close(self) -> None:
        with self._lock:
            first, self.life.closed = not self.life.closed, True
        if first:
            self._inbox.put(_Stop())
        if threading.current_thread() is self._thread:
            outlive(self._thread)
        elif self.life.hangs:
            self._thread.join(_PATIENCE)
        else:
            self._thread.join()

    def _prompted(self, task: Task) -> _Prompted:
        with self._lock:
            self.life.check()
            found = self._tasks.get(task)
            if found is None:
                answer = task.max_tokens if task.trie is None else _depth(task.trie.root)
                found = self._tasks[task] = _Prompted(self._prompts.render(task.prompt, task.opening), answer)
                if len(self._tasks) > _KEPT_TASKS:
                    self._tasks.popitem(last=False)
            else:
                self._tasks.move_to_end(task)
            return found

    def _check_fits(self, image_tokens: int, prompted: _Prompted) -> None:
        prompt, answer = len(prompted.prompt) + image_tokens, prompted.answer_tokens
        if prompt + answer > self._limits.request:
            raise request_too_long(prompt, answer, self._limits.request)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  nobody may be left waiting, whatever happened
            _log.exception("%s: the engine has died.", self.life.alias)
            with self._lock:
                self.life.dead = error
            self._watch.end()
            self._end(error)
        else:
            self._watch.end()
            self._end(self.life.dead)

    def _give_up(self, error: EngineDeadError) -> None:
        """TurboMind hangs: those who wait are told, from another thread than its own, which may hang with it."""
        fail_hung((request.future for request in self._waiting()), error)
        self._inbox.put(_Stop())

    def _waiting(self) -> set[_Request]:
        """The requests without an answer that the thread has taken, as well as another thread can see."""
        while True:
            try:
                rows = [*self._images, *self._branches, *(ticket.subject for ticket in self._computing)]
                return {row.request for row in (*rows, *(row for row, _ in self._collected))}
            except RuntimeError:  # changed meanwhile: the thread is at work after all
                continue

    def _work(self) -> None:
        while True:
            stop = False
            # What is computed ends one by one: each end is a sign of life.
            if self._computing:
                self._watch.begin(f"TurboMind's work on {len(self._computing)} requests")
            else:
                self._watch.end()
            for item in self._next_items():
                if isinstance(item, _Stop):
                    stop = True
                elif isinstance(item, Ticket):
                    self._collect(item)
                elif item.future.set_running_or_notify_cancel():
                    self._images.append(_Row(item, None if item.walk is None else item.walk.root))
            if not stop:
                self._hand_over()
            if self._collected:
                self._read(self._collected)
                self._collected = []
            if stop:
                return
            self._hand_over()

    def _next_items(self) -> list[_Request | Ticket | _Stop]:
        items = [self._inbox.get()]
        while True:
            try:
                items.append(self._inbox.get_nowait())
            except queue.Empty:
                return items

    def _hand_over(self) -> None:
        # Branches first: they end images that have been waiting longest, while their prompts are in the prefix cache.
        while self._branches and len(self._computing) < self._limits.slots:
            self._submit(self._branches.popleft())
        while self._images and len(self._computing) < self._limits.in_flight:
            row = self._images.popleft()
            row.request.started = time.perf_counter()
            self._submit(row)

    def _submit(self, row: _Row) -> None:
        request, branch = row.request, row.branch
        ticket = self._model.submit(
            [*request.tokens, *branch.path] if branch is not None and branch.path else request.tokens,
            request.picture,
            # A name gets a token more than its limit, to see whether it ended there.
            most_tokens=request.task.max_tokens + 1 if branch is None else 1,
            end_tokens=self._prompts.end_tokens if branch is None else (),
            subject=row,
            done=self._inbox.put,
        )
        self._computing.add(ticket)

    def _collect(self, ticket: Ticket) -> None:
        if ticket not in self._computing:
            return  # collected before; TurboMind may call twice
        outcome = self._model.collect(ticket)
        if outcome is None:
            return
        self._computing.remove(ticket)
        row: _Row = ticket.subject
        if isinstance(outcome, Outcome):
            self._collected.append((row, outcome))
        else:
            fail(row.request.future, outcome)

    def _read(self, rows: list[tuple[_Row, Outcome]]) -> None:
        """Score rows together and carry each request on."""
        states, wanted = [], []
        for row, outcome in rows:
            if row.branch is None:
                states += list(outcome.rows)
                wanted += [Wanted(np.array([token], np.int64)) for token in outcome.tokens]
            else:
                states.append(outcome.rows[0])
                wanted.append(row.request.prompted.asks(row.branch.node))
        try:
            scores = iter(self._rows.score(states, wanted))
        except EngineError as error:
            for row, _ in rows:
                fail(row.request.future, error)
            return
        for row, outcome in rows:
            request = row.request
            request.batch = max(request.batch, len(rows))
            if row.branch is None:
                chances = [float(next(scores).tokens[0]) for _ in outcome.tokens]
                naming = self._prompts.naming(outcome.tokens, chances, request.task.max_tokens)
                self._finish(request, None, naming)
                continue
            walk = request.walk
            assert walk is not None
            score = next(scores)
            walk.add(row.branch, score.tokens, score.end)
            request.waiting -= 1
            if request.waiting == 0 and not request.future.done():
                self._go_on(request, walk)

    def _go_on(self, request: _Request, walk: BranchWalk) -> None:
        following = walk.following()
        if following:
            request.waiting = len(following)
            self._branches.extend(_Row(request, branch) for branch in following)
        else:
            self._finish(request, walk.scores(), None)

    def _finish(self, request: _Request, labels: npt.NDArray[np.float64] | None, naming: Naming | None) -> None:
        now = time.perf_counter()
        answer(
            request.future,
            Scores(
                labels=labels,
                naming=naming,
                queued_ms=(request.started - request.arrived) * 1e3,
                encode_ms=0.0,
                score_ms=(now - request.started) * 1e3,
                batch=request.batch,
                prompt_tokens=len(request.tokens),
            ),
        )

    def _end(self, error: BaseException | None) -> None:
        """Answer everyone who waits, let TurboMind finish, and free the memory."""
        waiting = self._waiting() | {item for item in self._left() if isinstance(item, _Request)}
        fail_all((request.future for request in waiting), error)
        self._images.clear()
        self._branches.clear()
        for ticket in self._computing:
            self._model.cancel(ticket)
        deadline = time.monotonic() + _PATIENCE
        while self._computing:
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                # Freeing what TurboMind still computes with would end the process.
                _log.error("TurboMind did not give %d requests up; its memory stays taken.", len(self._computing))
                return
            if isinstance(item, Ticket):
                self._collect(item)
        self._rows.close()
        self._model.close()

    def _left(self) -> list[_Request | Ticket | _Stop]:
        items: list[_Request | Ticket | _Stop] = []
        while not self._inbox.empty():
            item = self._inbox.get()
            if isinstance(item, Ticket):
                self._collect(item)
            items.append(item)
        return items


def _depth(node: Node) -> int:
    """Tokens of the longest path to a node that is evaluated."""
    return max((1 + _depth(child) for child in node.children.values() if child.children), default=0)
