"""What users do to both engines at once, each way in a thread of its own until the time is over."""

from __future__ import annotations

import random
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .chats import Asked
from .ledger import Ledger
from .pictures import Question


@dataclass
class Load:
    """What all ways share.

    Attributes:
        classifier, llm: the engines.
        questions: pictures with their answers.
        bad: files that are no pictures.
        chats: conversations with their replies.
        tools: a conversation that offers a tool, where the model takes any.
        tolerance: how far a probability may be off.
        metrics_url: where the metrics are served, None where they are not.
        ledger: what becomes of requests.
        over: set when the time is over.
    """

    classifier: Any
    llm: Any
    questions: Sequence[Question]
    bad: Sequence[Any]
    chats: Sequence[Asked]
    tools: Asked | None
    tolerance: float
    metrics_url: str | None
    ledger: Ledger
    over: threading.Event = field(default_factory=threading.Event)

    def closed_set(self) -> list[Question]:
        """The questions with labels."""
        return [question for question in self.questions if question.labels is not None]


#: A way of using the engines: does a little of it, and is called again.
Way = Callable[[Load, random.Random], None]


def run(load: Load, ways: Sequence[Way], seconds: float, seed: int = 1, patience: float = 120.0) -> list[str]:
    """All ways at once for some time.

    Args:
        load: what they share.
        ways: one thread each; the same one may be there several times.
        seconds: how long.
        seed: of what they choose.
        patience: seconds after that in which all must have ended.

    Returns:
        Names of those that hang.
    """
    threads = []
    for number, way in enumerate(ways):
        name = f"soak-{way.__module__.rpartition('.')[2]}-{way.__name__}-{number}"
        threads.append(threading.Thread(target=_repeat, args=(load, way, 1000 * seed + number), name=name, daemon=True))
    for thread in threads:
        thread.start()
    load.over.wait(seconds)
    load.over.set()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _repeat(load: Load, way: Way, seed: int) -> None:
    chance = random.Random(seed)
    while not load.over.is_set():
        try:
            way(load, chance)
        except Exception:  # noqa: BLE001  what escapes a way's own accounts is a fault; the others go on
            load.ledger.fault(way.__name__, "escaped", traceback.format_exc(limit=-4))
            load.over.wait(1)


def scrape(load: Load, _: random.Random) -> None:
    """The metrics, once a second, as Prometheus would; without its library, as Python has them."""
    with load.ledger.request("metrics"):
        if load.metrics_url is not None:
            with urllib.request.urlopen(load.metrics_url, timeout=60) as answer:
                page = answer.read().decode()
            for name in ("fastinfer:images_total", "llamacpp:tokens_predicted_total"):
                if name not in page:
                    raise ValueError(f"there is no {name} on the page of metrics")
        metrics = load.llm.metrics()
        load.ledger.notice("requests_deferred", metrics["llamacpp:requests_deferred"])
        load.ledger.notice("requests_processing", metrics["llamacpp:requests_processing"])
        load.ledger.notice("slots_busy", sum(slot["is_processing"] for slot in load.llm.slots()))
    load.over.wait(1)
