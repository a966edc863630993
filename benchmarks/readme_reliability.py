"""RELIABILITY.md's tables: what a process of its own costs, load held, faults survived, bad inputs tried, peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["sections"]

Result = Callable[[str], dict[str, Any]]

#: What a process of its own may cost: of the rate, and milliseconds of a request.
LEAST_RATE, MOST_MS = 0.95, 2.0
ISOLATED = {
    "classify_h200": "classification, InternVL3-1B's shape, `prod`, H200",
    "classify_h200_tiny": "classification, the embedded model, `prod`, H200",
    "chat_h200": "chat, Seed-OSS-36B's shape, `balanced`, H200",
    "chat_h200_tiny": "chat, two small layers, `balanced`, H200",
    "classify": "classification, embedded, two cores",
    "chat": "chat, Gemma 3 270M, two cores",
}
SOAKS = {"soak_cpu": "30 minutes, two cores, embedded models", "soak_h200": "10 minutes, H200, `prod` and `balanced`"}
MOST_GROWTH = 1.0
MEMORY = {"resident": "rss_mb", "own": "own_mb", "GPU": "gpu_mb"}


def sections(result: Result) -> dict[str, str]:
    """The tables, by the names of their places in the page.

    Args:
        result: the content of a file of results by its name.
    """
    return {"isolation": isolation(result), "soak": soak(result), "faults": faults(result), "fuzzing": fuzzing(result),
            "peers": peers(result)}  # fmt: skip


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def isolation(result: Result) -> str:
    rows = []
    for name, what in ISOLATED.items():
        found = result(f"isolation_{name}")
        ratio, more = found["rate"]["ratio"], found["one_request_ms"]["difference"]
        held = ratio["median"] >= LEAST_RATE and more["median"] <= MOST_MS
        rows.append(
            (
                what,
                f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})",
                f"{more['median']:+.1f} ({more['min']:+.1f} to {more['max']:+.1f})",
                "held" if held else "**fails**",
                f"`{found['command']}`",
            )
        )
    return table(("what", f"rate over that of the same engine in this process, ≥ {LEAST_RATE}",
                  f"ms more for a request alone, ≤ {MOST_MS:g}", "", "command"), rows)  # fmt: skip


def soak(result: Result) -> str:
    rows = []
    for name, load in SOAKS.items():
        found = result(name)
        asked, growth = found["requests"], found["growth"]
        wrong = sum(kind.get("wrong", 0) for kind in found["by_kind"].values())
        fits = [
            f"{what}: {growth[key]['percent_per_hour']:+.2f} ± {growth[key]['standard_error']:.2f}"
            for what, key in MEMORY.items()
            if key in growth
        ]
        failing = [rule.replace("_", " ") for rule, holds in found["verdict"].items() if not holds]
        rows.append(
            (
                load,
                f"{asked['submitted']:,}",
                f"{asked['unaccounted']}, {wrong}, {len(found['hung'])}",
                "; ".join(fits),
                "**fails**: " + "; ".join(failing) if failing else "held",
                f"`{found['command']}`",
            )
        )
    return table(("load", "requests", "lost, wrong, hanging", f"memory, % an hour (≤ {MOST_GROWTH:g})", "", "command"),
                 rows)  # fmt: skip


def faults(result: Result) -> str:
    found = result("faults")
    columns = ("rows", "survived", "failing", "not run", "tests")
    counts = {kind: [count.get(name, 0) for name in columns] for kind, count in found["counts"].items()}
    counts["all"] = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
    rows = [(kind, *map(str, numbers)) for kind, numbers in counts.items()]
    head = ("kind", "faults", "survived", "failing", "not run there", "tests")
    return f"`{found['command']}`\n\n{table(head, rows)}"


def fuzzing(result: Result) -> str:
    found = result("fuzzing")
    rows = [(name, f"{target['inputs']:,}", "an input failed" if target["failed"] else "none failed")
            for name, target in found["targets"].items()]  # fmt: skip
    return f"`{found['command']}`\n\n{table(('target', 'inputs tried', ''), rows)}"


def with_one_bad(tried: dict[str, Any]) -> str:
    """What a call with one bad picture among good ones came to."""
    kind, _, said = tried["bad_picture"].partition(" ")
    reason = ""
    if kind.startswith("error"):
        reason = f" (`{said.partition(':')[0]}`)" if said else ", without a reason"
    siblings = f"{tried['siblings_as_alone']} of {tried['siblings']} others as without it"
    return f"{tried['outcome']}{reason}; {siblings}"


def peers(result: Result) -> str:
    shared, left = result("reliability_shared_llama"), result("reliability_cancelled_prompt")
    pictures = result("reliability_truncated_jpeg")
    two = shared["llama"]["2"]
    crashes = ", ".join(f"{what}: {count}" for what, count in two["outcomes"].items())
    texts = [f"{tried['texts_of_tries_that_ended'].get('right', 0)} of {threads} threads"
             for threads, tried in shared["fastinfer"].items()]  # fmt: skip
    times = left["seconds"]

    def seconds(side: str, what: str) -> str:
        found = times[side][what]
        return f"{found['median']:.1f} s ({found['min']:.1f} to {found['max']:.1f})"

    rows = [
        (
            "one model, two threads that ask at once",
            f"`llama_cpp.Llama`, {two['tries']} tries: {crashes}",
            f"all texts as alone: {', '.join(texts)}",
            f"`{shared['command']}`",
        ),
        (
            f"a client leaves while its prompt of {left['prompt_tokens']:,} tokens is read: the slot stays taken for",
            f"llama-server, streaming: {seconds('llama_server_stream', 'slot_taken_after_leaving')}",
            seconds("fastinfer", "slot_taken_after_leaving"),
            f"`{left['command']}`",
        ),
        *(
            (
                f"one of {pictures['pictures']} pictures in a call is bad: {fault}",
                f"`lmdeploy.pipeline` {pictures['environment']['versions']['lmdeploy']}: {with_one_bad(theirs)}",
                with_one_bad(pictures["fastinfer"][fault]),
                f"`{pictures['command']}`",
            )
            for fault, theirs in pictures["lmdeploy"].items()
        ),
    ]
    return table(("case", "peer", "fastinfer", "command"), rows)
