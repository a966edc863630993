"""What an engine's process does with what its parent asks."""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import numpy as np

from fastinfer.engines.base import GroupingEngine, Scores, Task
from fastinfer.engines.chat import ChatEngine, Delta, Generation, Outcome, PlacedImage, Sampling, Ticket
from fastinfer.engines.isolated.failures import write_failure
from fastinfer.engines.isolated.memory import SharedView
from fastinfer.engines.isolated.vocabulary import describe
from fastinfer.engines.scoring import LabelTrie
from fastinfer.engines.tally import as_json
from fastinfer.errors import EngineDeadError
from fastinfer.images.prepared import EngineImage, PreparedImage

Engine = TypeVar("Engine", bound=GroupingEngine | ChatEngine)

__all__ = ["ChatServer", "ClassifyServer", "Server"]

#: Tasks that are kept by number: more than the parent has numbers for, so that none of those is ever missing.
_KEPT_TASKS: Final = 256
#: Preprocessed prompts with images that are kept until they are submitted.
_KEPT_PROMPTS: Final = 32
#: Threads for questions, so that tokenizing a long text does not hold up what comes after it.
_THREADS: Final = 2
#: Questions that are answered without a thread more to wake, where they come with no more bytes than these.
_QUICK: Final = ("tokenize", "tokenize_label")
_SHORT: Final = 4096


class Send(Protocol):
    """Sends a message to the parent."""

    def __call__(self, body: dict[str, Any], blob: bytes = b"", /) -> None: ...


class Server(ABC, Generic[Engine]):
    """Serves one engine.

    Args:
        engine: what it serves.
        send: sends a message.
    """

    def __init__(self, engine: Engine, send: Send) -> None:
        self._engine: Engine = engine
        self._send = send
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fastinfer-engine-ask")

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the parent has to know of the engine, as JSON."""

    @abstractmethod
    def report(self) -> dict[str, Any] | None:
        """What the engine has counted, as JSON, with the number of this process; None where the parent counts."""

    def refuse(self, error: BaseException, body: dict[str, Any]) -> None:
        """Answer with an error; where the engine has died of it, say so, so that this process is replaced."""
        if isinstance(error, EngineDeadError):
            self._send({"died": write_failure(error)})
        else:
            self._send({**body, "error": write_failure(error)})

    def take(self, body: dict[str, Any], blob: bytes) -> None:
        """Do what a message says."""
        if body["op"] != "call":
            getattr(self, f"_do_{body['op']}")(body, blob)
        elif body["name"] in _QUICK and len(blob) <= _SHORT:
            self._answer(body, blob)
        else:
            self._pool.submit(self._answer, body, blob)

    def _do_alias(self, body: dict[str, Any], _: bytes) -> None:
        self._engine.go_by(body["alias"])

    def _do_steps(self, body: dict[str, Any], _: bytes) -> None:
        self._engine.limit_steps(body["seconds"])

    def _answer(self, body: dict[str, Any], blob: bytes) -> None:
        number = body["id"]
        try:
            result, bytes_ = getattr(self, f"_call_{body['name']}")(blob, *body["arguments"])
        except Exception as error:  # noqa: BLE001  whoever asked gets it, whatever it is
            self.refuse(error, {"id": number})
        else:
            self._send({"id": number, "result": result}, bytes_)


class ClassifyServer(Server[GroupingEngine]):
    """Serves a classification engine.

    Args:
        engine: what it serves.
        images: the memory that images come in.
        scores: the memory that scores go into.
        send: sends a message.
    """

    def __init__(self, engine: GroupingEngine, images: SharedView, scores: SharedView, send: Send) -> None:
        super().__init__(engine, send)
        self._images, self._scores = images, scores
        self._tasks: OrderedDict[int, Task] = OrderedDict()
        self._futures: dict[int, list[Future[Scores]]] = {}

    def facts(self) -> dict[str, Any]:
        """As the base class says."""
        description = self._engine.description
        preparation = description.preparation
        return {
            "engine": description.engine,
            "device": description.device,
            "image_size": description.image_size,
            "batched_images": description.batched_images,
            "path": description.path,
            "dtype": None if preparation is None else preparation.dtype,
            "group_size": getattr(self._engine, "group_size", 0),
        }

    def report(self) -> None:
        """As the base class says."""
        return

    def _call_tokenize_label(self, _: bytes, label: str, prompt: str) -> tuple[list[int], bytes]:
        return self._engine.tokenize_label(label, prompt), b""

    def _do_task(self, body: dict[str, Any], _: bytes) -> None:
        labels = body["labels"]
        trie = None if labels is None else LabelTrie(labels)
        self._tasks[body["task"]] = Task(body["prompt"], trie, body["max_tokens"], body["opening"])
        if len(self._tasks) > _KEPT_TASKS:
            self._tasks.popitem(last=False)

    def _do_cancel(self, body: dict[str, Any], _: bytes) -> None:
        for future in self._futures.get(body["id"], ()):
            future.cancel()

    def _do_classify(self, body: dict[str, Any], _: bytes) -> None:
        number = body["id"]
        images = [self._image(place) for place in body["images"]]
        task = self._tasks[body["task"]]
        self._tasks.move_to_end(body["task"])
        try:
            if body["together"]:
                futures = self._engine.submit_together(images, task)
            else:
                futures = [self._engine.submit(image, task) for image in images]
        except Exception as error:  # noqa: BLE001  whoever asked gets it, whatever it is
            for index in range(len(images)):
                self.refuse(error, {"id": number, "n": index})
            return
        self._futures[number] = futures
        left = itertools.count(len(futures) - 1, -1)
        for index, (future, row) in enumerate(zip(futures, body["rows"], strict=True)):
            future.add_done_callback(partial(self._done, number, index, row, body["waited_ms"], left))

    def _image(self, place: dict[str, Any]) -> EngineImage:
        # Copied, because an engine may look at an image once more after it has answered, as after an error of another
        # row, and by then the place may be another image's.
        shape = tuple(place["shape"])
        if "tokens" not in place:
            pixels: EngineImage = self._images.array(place["offset"], shape, np.uint8).copy()
            return pixels
        grid = place["grid"]
        data = self._images.array(place["offset"], shape, np.uint16).copy()
        return PreparedImage(data, place["tokens"], None if grid is None else (grid[0], grid[1], grid[2]))

    def _done(
        self, number: int, index: int, row: int, waited_ms: float, left: itertools.count[int], future: Future[Scores]
    ) -> None:
        if next(left) == 0:
            self._futures.pop(number, None)
        if future.cancelled():
            self._send({"id": number, "n": index, "cancelled": True})
            return
        error = future.exception()
        if error is not None:
            self.refuse(error, {"id": number, "n": index})
            return
        scores = future.result()
        naming = scores.naming
        if scores.labels is not None:
            self._scores.array(row, scores.labels.shape, np.float64)[:] = scores.labels
        answer = {
            "naming": None if naming is None else [naming.text, naming.probability, naming.complete],
            "queued_ms": scores.queued_ms + waited_ms,
            "encode_ms": scores.encode_ms,
            "score_ms": scores.score_ms,
            "batch": scores.batch,
            "prompt_tokens": scores.prompt_tokens,
        }
        self._send({"id": number, "n": index, "scores": answer})


class ChatServer(Server[ChatEngine]):
    """Serves a chat engine.

    Args:
        engine: what it serves.
        images: the memory that images come in.
        send: sends a message.
    """

    def __init__(self, engine: ChatEngine, images: SharedView, send: Send) -> None:
        super().__init__(engine, send)
        self._images = images
        self._tickets: dict[int, Ticket] = {}
        self._placed: OrderedDict[int, Generation] = OrderedDict()

    def facts(self) -> dict[str, Any]:
        """As the base class says."""
        engine = self._engine
        with engine.vocabulary() as vocabulary:
            described = describe(vocabulary)
        return {
            "name": engine.name,
            "limit": engine.limit,
            "takes_images": engine.takes_images,
            "kernel_path": engine.kernel_path,
            "adjustments": [[a.field, a.asked, a.used, a.why] for a in engine.adjustments],
            "vocabulary": described,
            "occupancy": list(engine.occupancy()),
        }

    def report(self) -> dict[str, Any]:
        """As the base class says."""
        return {"pid": os.getpid(), "counters": as_json(self._engine.counters)}

    def _call_tokenize(self, blob: bytes, special: bool, continues: bool) -> tuple[None, bytes]:
        with self._engine.vocabulary() as vocabulary:
            tokens = vocabulary.tokenize(blob.decode(), special=special, continues=continues)
        return None, np.array(tokens, np.int32).tobytes()

    def _call_check_grammar(self, blob: bytes) -> tuple[None, bytes]:
        with self._engine.vocabulary() as vocabulary:
            vocabulary.check_grammar(blob.decode("utf-8", "surrogatepass"))
        return None, b""

    def _call_place(self, blob: bytes, pictures: dict[str, Any]) -> tuple[None, bytes]:
        placed = self._place(Generation(tokens=np.frombuffer(blob, np.int32)), pictures)
        self._placed[pictures["key"]] = placed
        if len(self._placed) > _KEPT_PROMPTS:
            _, dropped = self._placed.popitem(last=False)
            dropped.images.close()
        return None, placed.tokens.tobytes()

    def _call_slots(self, _: bytes) -> tuple[list[dict[str, Any]], bytes]:
        return self._engine.slots(), b""

    def _call_load(self, _: bytes) -> tuple[list[float], bytes]:
        values = self._engine.metrics()
        self._send({"report": self.report()})
        return [values["llamacpp:requests_processing"], values["llamacpp:requests_deferred"]], b""

    def _call_occupancy(self, _: bytes) -> tuple[list[int], bytes]:
        return list(self._engine.occupancy()), b""

    def _call_profile(self, _: bytes) -> tuple[dict[str, float], bytes]:
        return self._engine.profile(), b""

    def _do_show(self, body: dict[str, Any], _: bytes) -> None:
        self._engine.show(body["tokens"])

    def _do_cancel(self, body: dict[str, Any], _: bytes) -> None:
        ticket = self._tickets.get(body["id"])
        if ticket is not None:
            ticket.cancel()

    def _do_generate(self, body: dict[str, Any], blob: bytes) -> None:
        number, pictures = body["id"], body["pictures"]
        biases = tuple((token, float(bias)) for token, bias in body["biases"])
        generation = Generation(
            tokens=np.frombuffer(blob, np.int32),
            sampling=Sampling(**body["sampling"], logit_bias=biases),
            max_tokens=body["max_tokens"],
            stop=tuple(body["stop"]),
            grammar=body["grammar"],
            grammar_after=body["grammar_after"],
            grammar_opening=body["grammar_opening"],
            logprobs=body["logprobs"],
            deadline=body["deadline"],
        )
        sink = _Sink(number, self, self._send, self._tickets, whole=body["whole"])
        try:
            if pictures is not None:
                placed = self._placed.pop(pictures["key"], None)
                generation = (
                    self._place(generation, pictures)
                    if placed is None
                    else replace(generation, tokens=placed.tokens, images=placed.images)
                )
            self._tickets[number] = self._engine.submit(generation, sink)
            sink.submitted()
        except Exception as error:  # noqa: BLE001  whoever asked gets it, whatever it is
            sink.fail(error)

    def _place(self, generation: Generation, pictures: dict[str, Any]) -> Generation:
        images = [
            PlacedImage(place["at"], self._images.array(place["offset"], tuple(place["shape"]), np.uint8))
            for place in pictures["images"]
        ]
        return self._engine.place(generation, images)


class _Sink:
    """Sends a reply on: as it comes, or whole."""

    def __init__(self, number: int, server: ChatServer, send: Send, tickets: dict[int, Ticket], *, whole: bool) -> None:
        self._number, self._server, self._send, self._tickets = number, server, send, tickets
        self._is_over = False
        self.whole = whole
        #: What nobody would look at yet.
        self._deltas: list[tuple[str, list[Any]]] = []

    def submitted(self) -> None:
        if self._is_over:  # before its ticket was there
            self._tickets.pop(self._number, None)

    def put(self, delta: Delta) -> None:
        self._deltas.append((delta.text, [[p.token, list(p.bytes), p.logprob, p.top] for p in delta.logprobs]))
        if not self.whole:
            self._send({"id": self._number, "deltas": self._deltas})
            self._deltas = []

    def finish(self, outcome: Outcome) -> None:
        self._end()
        self._send({"id": self._number, "deltas": self._deltas, "outcome": asdict(outcome)})

    def fail(self, error: Exception) -> None:
        self._end()
        self._server.refuse(error, {"id": self._number})

    def _end(self) -> None:
        self._is_over = True
        self._tickets.pop(self._number, None)
