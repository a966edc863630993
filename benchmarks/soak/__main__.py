"""The command line.

    python -m benchmarks.soak --minutes 30 --output benchmarks/results/soak_cpu.json
    python -m benchmarks.soak --minutes 10 --classify prod --classify-model FOLDER \
        --chat balanced --chat-model FILE.gguf --output soak_h200.json

Ends with 1 where an answer was wrong, an error was not expected, a request was lost, something hung, or memory grew by
more than ``--most`` percent an hour beyond twice the standard error.
"""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import argparse
import gc
import itertools
import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fastinfer
from fastinfer.errors import FastInferError

from ..common import parameters, save
from . import chats, chatting, classifying, pictures
from .growth import Sampler, footing, growth, reading
from .ledger import Ledger
from .load import Load, run, scrape

TEMPLATE = Path(__file__).with_name("transcript.jinja")
#: Of a probability between two askings. The embedded preset's differ by 0.0007 on pictures of what the labels say; here
#: most labels are wrong, and an answer that wavers among three of them moves by twice that with its place in a batch.
TOLERANCES = {"embedded": 0.002}
_TOLERANCE = 0.02
_WARM_UP = 0.2
#: What must not grow. What a process has for itself alone shrinks and grows with who else maps a model's file, and what
#: is held of the memory it has tells only where a growth comes from.
_JUDGED = ("rss_mb", "own_mb", "gpu_mb")
WAYS = {"classify": classifying.WAYS, "chat": chatting.WAYS}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--classify", default="embedded", metavar="PRESET", help="the classifier's preset")
    parser.add_argument("--classify-model", help="its model; else the preset's own")
    parser.add_argument("--chat", default="embedded", metavar="PRESET", help="the chat preset")
    parser.add_argument("--chat-model", help="its model; else the preset's own, the extra embedded-chat for embedded")
    parser.add_argument("--chat-template", help="a Jinja file; else the model's own, or for embedded one with tools")
    parser.add_argument("--classify-set", action="append", default=[], metavar="NAME=VALUE", help="of its preset")
    parser.add_argument("--threads", type=int, help="n_threads of both, 1 beside other work; else the presets'")
    parser.add_argument("--only", choices=WAYS, help="leave the other engine at rest, to see which of them grows")
    parser.add_argument("--isolate", action="store_true", help="engines in processes of their own")
    parser.add_argument("--tolerance", type=float, help="how far a probability may be off; by default by the preset")
    parser.add_argument("--gap", type=float, default=0.5, help="how clear a greedy token must be to be held to it")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two readings of memory")
    parser.add_argument("--most", type=float, default=1.0, help="percent an hour that memory may grow")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    given.classify_set = parameters(given.classify_set)
    return given


@contextmanager
def engines(a: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """Both engines, open."""
    apart: dict[str, Any] = {"isolate": True} if a.isolate else {}
    template = a.chat_template or (str(TEMPLATE) if a.chat == "embedded" and a.chat_model is None else None)
    spoken: dict[str, Any] = {} if template is None else {"chat_template": template}
    if a.threads is not None:
        apart["n_threads"] = a.threads
    with ExitStack() as stack:
        labels = list(pictures.LABELS[0])
        own = {**apart, **a.classify_set}
        classifier = fastinfer.classifier(a.classify, model=a.classify_model, labels=labels, **own)
        stack.callback(classifier.close)
        llm = fastinfer.llm(a.chat, model=a.chat_model, **spoken, **apart)
        stack.callback(llm.close)
        yield classifier, llm


def at_rest(llm: Any, seconds: float = 60.0) -> dict[str, float]:
    """What runs and waits in the chat engine once nobody asks: both 0, unless something hangs."""
    deadline = time.monotonic() + seconds
    while True:
        gc.collect()
        metrics = llm.metrics()
        found = {name: metrics[f"llamacpp:{name}"] for name in ("requests_processing", "requests_deferred")}
        if not any(found.values()) or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def soak(a: argparse.Namespace) -> dict[str, Any]:
    """Open both, ask for the answers, load, and let go; gives the figures."""
    logging.getLogger("fastinfer").setLevel(logging.ERROR)
    tolerance = TOLERANCES.get(a.classify, _TOLERANCE) if a.tolerance is None else a.tolerance
    before = footing()
    ledger = Ledger()
    ways = (*itertools.chain.from_iterable(of for name, of in WAYS.items() if a.only in (None, name)), scrape)
    with ExitStack() as stack:
        try:
            url = stack.enter_context(fastinfer.serve_metrics(0)).url
        except FastInferError:  # without the extra
            url = None
        classifier, llm = stack.enter_context(engines(a))
        load = Load(
            classifier=classifier,
            llm=llm,
            questions=pictures.ask_all(classifier),
            bad=pictures.bad_images(random.Random(a.seed)),
            chats=chats.ask_all(llm, a.gap),
            tools=chats.with_tools(llm, a.gap),
            tolerance=tolerance,
            metrics_url=url,
            ledger=ledger,
        )
        print(f"{len(load.questions)} pictures and {len(load.chats)} chats asked alone", file=sys.stderr, flush=True)
        opened = {**footing(), **reading()}
        sampler = Sampler(a.every, lambda: {"threads": footing()["threads"], "descriptors": footing()["descriptors"]})
        sampler.start()
        hung = run(load, ways, a.minutes * 60, a.seed)
        sampler.stop()
        rest = at_rest(llm)
        loaded = {**footing(), **reading()}
        figures = {
            "classifier": describe(classifier),
            "chat": describe(llm),
            "references": {
                "classify": len(load.questions),
                "open_set": len(load.questions) - len(load.closed_set()),
                "chat": len(load.chats),
                "chat_tokens": sum(len(one.logprobs) for one in load.chats),
                "tool": load.tools is not None and load.tools.calls,
            },
        }
        del classifier, llm, load
    gc.collect()
    closed = {**footing(), **reading()}
    warm = a.minutes * 60 * _WARM_UP
    account = ledger.account()
    figures_of_memory = [name for name in sampler.samples[0] if name.endswith(("_mb", "_blocks"))]
    memory = {name: growth(sampler.samples, name, warm) for name in figures_of_memory}
    return {
        **figures,
        "settings": {
            "minutes": a.minutes,
            "classify_set": a.classify_set,
            "tolerance": tolerance,
            "gap": a.gap,
            "callers": len(ways),
            "metrics": "fetched over HTTP" if url else "read in the process",
            "nice": os.nice(0) if hasattr(os, "nice") else None,
        },
        "requests": account["total"],
        "largest": {name: round(value, 6) for name, value in sorted(ledger.largest.items())},
        "hung": hung,
        "at_rest": rest,
        "growth": memory,
        "footing": {
            "before": before,
            "opened": opened,
            "after_warm_up": first_after(sampler.samples, warm),
            "loaded": loaded,
            "closed": closed,
        },
        "verdict": verdict(account, hung, rest, ledger.largest.get("requests_deferred", 0.0), memory, a.most),
        "by_kind": account["by_kind"],
        "faults": account["faults"],
        "samples": thinned(sampler.samples),
    }


def describe(engine: Any) -> dict[str, Any]:
    """What runs."""
    ran = engine.provenance
    return {"engine": ran.engine, "model": ran.model, "preset": ran.preset, "device": ran.device}


def first_after(samples: list[dict[str, float]], seconds: float) -> dict[str, float]:
    return next((sample for sample in samples if sample["seconds"] >= seconds), samples[-1])


def thinned(samples: list[dict[str, float]], most: int = 120) -> list[dict[str, float]]:
    """Some readings, for those who want to draw them."""
    return samples[:: max(1, len(samples) // most)]


def verdict(
    account: dict[str, Any],
    hung: list[str],
    rest: dict[str, float],
    deferred: float,
    memory: dict[str, Any],
    most: float,
) -> dict[str, bool]:
    """What must hold, and whether it did; growth where there are readings enough for a line."""
    total = account["total"]
    found = {
        "every_request_accounted_for": total["unaccounted"] == 0,
        "no_wrong_answer": not total.get("wrong"),
        "no_unexpected_error": not total.get("unexpected") and not total.get("escaped"),
        "nothing_hangs": not hung and not any(rest.values()),
        # Those that were cancelled wait for the engine's next step, and their callers ask again meanwhile.
        "queue_bounded": deferred <= 2 * chatting.MOST_AT_ONCE,
    }
    for name, line in memory.items():
        if "percent_per_hour" in line and name in _JUDGED:
            sure = line["percent_per_hour"] - 2 * line["standard_error"]
            found[f"{name}_grows_at_most_{most:g}_percent_an_hour"] = sure <= most
    return found


def main() -> int:
    a = arguments()
    figures = soak(a)
    save("soak", " ".join(["python -m benchmarks.soak", *sys.argv[1:]]), figures, a.output)
    failed = [name for name, held in figures["verdict"].items() if not held]
    print("not held: " + ", ".join(failed) if failed else "all held", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
