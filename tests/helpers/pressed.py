"""Ctrl-C at random moments: a program that makes public calls until it is interrupted, and who presses."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CALLS", "Pressed", "press"]

#: Every public call that waits, and opening and closing an engine; each runs again and again until it is interrupted.
CALLS = {
    "classify": "clf.classify(pictures[0])",
    "classify_many": "for _ in clf.classify_many(pictures): pass",
    "classify_many, reproducible": "for _ in clf.classify_many(pictures, reproducible=True): pass",
    "aclassify": "asyncio.run(clf.aclassify(pictures[0]))",
    "aclassify_many": "asyncio.run(drain(clf.aclassify_many(pictures)))",
    "calibrate": "clf.calibrate([(picture, said.label) for picture, said in zip(pictures * 2, right_labels * 2)])",
    "labels": "clf.labels = [str(next(numbers)), *labels]; clf.labels = labels",
    "chat": "llm.chat('hello', **few)",
    "achat": "asyncio.run(llm.achat('hello', **few))",
    "chat_many": "for _ in llm.chat_many(['hello'] * 6, **few): pass",
    "achat_many": "asyncio.run(drain(llm.achat_many(['hello'] * 6, **few)))",
    "stream": "for _ in llm.stream('hello', **few): pass",
    "astream": "asyncio.run(streamed())",
    "slots, metrics and tokens": "llm.slots(), llm.metrics(), llm.count_tokens('hello')",
    "run": "fastinfer.run(folder, out(), using=clf)",
    "arun": "asyncio.run(fastinfer.arun(folder, out(), using=clf))",
    "classifier": "fastinfer.classifier(labels=labels, workers=1).close()",
    "llm": "fastinfer.llm(**small).close()",
    "a classifier that is dropped": "fastinfer.classifier(labels=labels, workers=1)",
    "a chat model that is dropped": "fastinfer.llm(**small)",
}

_PROGRAM = """
import asyncio, faulthandler, itertools, logging, signal, sys, time
from pathlib import Path
from PIL import Image
import fastinfer
signal.signal(signal.SIGINT, signal.default_int_handler)
# What it says of interrupted tasks it says in their finalisers, where Python itself would lose an interrupt.
logging.getLogger("asyncio").disabled = True
calls, presses, model, work = eval(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
labels = ["red circle", "red square", "line"]
clf = fastinfer.classifier(labels=labels, workers=2)
small = dict(model=model, n_ctx=512, n_batch=256, n_ubatch=256, n_threads=1)
llm = fastinfer.llm(**small)
few = dict(max_tokens=6, temperature=0, ignore_eos=True, seed=1)
pictures = [Image.new("RGB", (60, 60), colour) for colour in ("red", "green", "blue", "white", "black", "cyan")]
folder = work / "pictures"
folder.mkdir()
for number in range(24):
    Image.effect_noise((12, 12), 20 + number).save(folder / f"{number:02}.png")
numbers = itertools.count()

def out():
    return work / f"{next(numbers)}.jsonl"

async def drain(results):
    return [result async for result in results]

async def streamed():
    async for _ in llm.astream("hello", **few):
        pass

def answers():
    for slot in range(200):
        if not any(slot["is_processing"] for slot in llm.slots()):
            break
        time.sleep(0.01)
    else:
        raise AssertionError("a slot stays taken")
    return [r.label for r in clf.classify_many(pictures, reproducible=True)], llm.chat("hello", **few).text

right_labels = list(clf.classify_many(pictures))
right = answers()
for name, call in calls.items():
    code = compile(call, name, "exec")
    for _ in range(presses):
        faulthandler.dump_traceback_later(15, exit=True)
        try:
            print("press", name, flush=True)
            while True:
                exec(code)
        except (KeyboardInterrupt, asyncio.CancelledError) as error:
            # asyncio itself says so where Ctrl-C comes before the task's first step.
            assert isinstance(error, KeyboardInterrupt) or "asyncio.run(" in call, call
            faulthandler.cancel_dump_traceback_later()
            print("pressed", flush=True)
    faulthandler.dump_traceback_later(15, exit=True)
    clf.calibration = None
    assert answers() == right, "other answers"
    print("right", name, flush=True)
faulthandler.dump_traceback_later(30, exit=True)
clf.close()
llm.close()
print("closed", flush=True)
"""


@dataclass(slots=True)
class Pressed:
    """What became of it.

    Attributes:
        sent: how often Ctrl-C was pressed, by call.
        surfaced: how often it came out as KeyboardInterrupt, by call.
        right: calls after which the engines gave the answers that they gave before.
        closed: the engines could be closed in the end.
        said: what the program printed on standard error, which is nothing.
        code: its exit code.
    """

    sent: dict[str, int] = field(default_factory=dict)
    surfaced: dict[str, int] = field(default_factory=dict)
    right: list[str] = field(default_factory=list)
    closed: bool = False
    said: str = ""
    code: int = 0


def press(
    calls: dict[str, str], presses: int, *, model: Path, work: Path, sources: Path, seed: int, within: float
) -> Pressed:
    """Run each call again and again in a process of its own, and press Ctrl-C at random moments.

    Args:
        calls: Python code by name; see :data:`CALLS`.
        presses: how often, for each.
        model: the file of a chat model.
        work: an empty folder.
        sources: where the package is imported from.
        seed: of the moments.
        within: seconds from the first call to the latest moment; most presses come much earlier.
    """
    dice, done = random.Random(seed), Pressed()
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONFAULTHANDLER": "1"}
    program = [sys.executable, "-c", _PROGRAM, repr(calls), str(presses), str(model), str(work)]
    with (
        (work / "stderr").open("w+") as said,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as child,
    ):
        assert child.stdout is not None
        name = ""
        for line in child.stdout:
            what, _, rest = line.rstrip("\n").partition(" ")
            if what == "press":
                name = rest
                time.sleep(within * dice.random() ** 3)
                child.send_signal(signal.SIGINT)
                done.sent[name] = done.sent.get(name, 0) + 1
            elif what == "pressed":
                done.surfaced[name] = done.surfaced.get(name, 0) + 1
            elif what == "right":
                done.right.append(rest)
            elif what == "closed":
                done.closed = True
        done.code = child.wait(60)
        said.seek(0)
        done.said = said.read()
    return done
