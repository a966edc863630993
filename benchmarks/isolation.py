"""What a process of its own costs an engine: throughput and latency, with isolate=True and without, in turns.

    python benchmarks/isolation.py classify [--preset prod --model FOLDER]
    python benchmarks/isolation.py chat --model FILE.gguf [--preset balanced]

Both engines are open at once and work one after the other, so each has the machine to itself while it is measured. The
ratio of a round is isolated / in this process; for the time of one request, the difference counts, in milliseconds.
"""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
from contextlib import suppress

with suppress(ImportError):
    import llama_cpp  # noqa: F401

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from common import parameters, save, spread

import fastinfer
from fastinfer.images.folder import images_below
from fastinfer.measuring import alternate, judge

SAMPLES = Path(fastinfer.__file__).parent / "samples"
LABELS = ["a car", "a fish", "a key", "a mushroom", "a tree", "an umbrella", "a heart", "a star"]


def timed(work: Callable[[], int]) -> float:
    """How much of its work is done a second."""
    begun = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - begun)


def alone(ask: Callable[[], Any]) -> float:
    """Milliseconds of one request alone."""
    begun = time.perf_counter()
    ask()
    return (time.perf_counter() - begun) * 1e3


def medians(waits: list[list[tuple[float, float]]], of: Callable[[float, float], float]) -> dict[str, float]:
    """The median of each round, and how far those are apart."""
    return spread([statistics.median(of(first, second) for first, second in pairs) for pairs in waits])


def compare(
    inside: Any, isolated: Any, work: Callable[[Any], int], ask: Callable[[Any], Any], rounds: int, times: int
) -> dict[str, Any]:
    """Rates of both by rounds in turns, and times by requests in turns; first ones are not counted."""
    for engine in (inside, isolated):
        work(engine)
        for _ in range(3):
            ask(engine)
    rates = alternate(lambda: timed(lambda: work(inside)), lambda: timed(lambda: work(isolated)), rounds)
    # Request by request, because a machine's speed drifts by more in a second than what is looked for.
    waits = [
        alternate(lambda: alone(lambda: ask(inside)), lambda: alone(lambda: ask(isolated)), times)
        for _ in range(rounds)
    ]
    judged = judge([second / first for first, second in rates])
    return {
        "rate": {
            "in_this_process": spread([first for first, _ in rates]),
            "isolated": spread([second for _, second in rates]),
            "ratio": spread(judged.ratios),
            "ratios": [round(ratio, 4) for ratio in judged.ratios],
            "verdict": judged.verdict,
        },
        "one_request_ms": {
            "in_this_process": medians(waits, lambda first, _: first),
            "isolated": medians(waits, lambda _, second: second),
            "difference": medians(waits, lambda first, second: second - first),
        },
        "rounds": rounds,
    }


def classify(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    pictures = [path.read_bytes() for path in images_below(SAMPLES)]
    images = list(islice(cycle(pictures), arguments.work))
    opened = [
        fastinfer.classifier(arguments.preset or "embedded", labels=LABELS, isolate=isolate, **options)
        for isolate in (False, True)
    ]
    with opened[0] as inside, opened[1] as isolated:
        for ours, theirs in zip(inside.classify_many(pictures), isolated.classify_many(pictures), strict=True):
            assert ours.label == theirs.label
            assert all(abs(p - theirs.probabilities[label]) < 0.02 for label, p in ours.probabilities.items())
        figures = compare(
            inside,
            isolated,
            lambda c: len(list(c.classify_many(images))),
            lambda c: c.classify(pictures[0]),
            arguments.rounds,
            arguments.times,
        )
        return {"unit": "images/s", "provenance": isolated.provenance.kernel_path, **figures}


def chat(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    def work(llm: Any) -> int:
        asked = (f"Write a few sentences about the number {number}." for number in range(arguments.work))
        replies = llm.chat_many(asked, max_tokens=arguments.tokens, ignore_eos=True, temperature=0)
        return sum(reply.usage.completion_tokens for reply in replies)

    opened = [fastinfer.llm(arguments.preset or "embedded", isolate=isolate, **options) for isolate in (False, True)]
    with opened[0] as inside, opened[1] as isolated:
        figures = compare(
            inside,
            isolated,
            work,
            lambda llm: llm.chat("Hello.", max_tokens=1, temperature=0),
            arguments.rounds,
            arguments.times,
        )
        return {"unit": "tokens/s", "provenance": isolated.provenance.kernel_path, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("classify", "chat"))
    parser.add_argument("--preset", help="of that kind; the default is embedded")
    parser.add_argument("--model", help="the preset's own unless given")
    parser.add_argument("--work", type=int, default=96, help="images or conversations of a round")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of a reply")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--times", type=int, default=15, help="requests of a round that are timed alone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the preset")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    options = ({} if arguments.model is None else {"model": arguments.model}) | parameters(arguments.set)
    figures = {"classify": classify, "chat": chat}[arguments.kind](arguments, options)
    command = f"python benchmarks/isolation.py {arguments.kind}"
    for name in ("preset", "work", "tokens", "rounds", "times"):
        if getattr(arguments, name) != parser.get_default(name):
            command += f" --{name} {getattr(arguments, name)}"
    command += " --model MODEL" if arguments.model else ""
    save(f"isolation_{arguments.kind}", command + "".join(f" --set {given}" for given in arguments.set), figures,
         arguments.out)  # fmt: skip


if __name__ == "__main__":
    main()
