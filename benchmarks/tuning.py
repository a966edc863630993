"""What ``fastinfer.tune`` finds beside an exhaustive grid over the same values, and how long each of them takes.

    python -m benchmarks.tuning                    the chat model of the extra embedded-chat, on this CPU
    python -m benchmarks.tuning --h200 MODEL.gguf  the preset balanced on one GPU, without the grid; writes a plot too

On the CPU every combination of the values is loaded and measured once, with as much work as tune gives those it
decides on; then tune gets a little less than a fifth of the time that this took. Neither can be trusted alone on a
machine that others use too: the best of the grid and what tune chose are measured again at the end, in turns, and the
ratio is taken round by round.
"""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import fastinfer
from fastinfer.errors import FastInferError
from fastinfer.measuring import Figures, measure_chat
from fastinfer.tuning import Ladder, Tuned
from fastinfer.tuning.candidates import with_room

from .chat.prompts import Prompts
from .common import RESULTS, interleave, save, spread

PLAIN = Path(__file__).parent / "chat/plain.jinja"
#: Every combination of these is the grid; tune walks them one after the other.
VALUES: dict[str, tuple[int | bool, ...]] = {
    "parallel": (1, 2, 4, 8, 12, 16),
    "kv_unified": (True, False),
    "prefill_budget": (512, 2048),
    "n_ubatch": (512, 2048),
}
#: The part of the grid's time that tune gets: a fifth, less what its last measurement may take longer than expected.
SHARE = 0.19
#: Of the grid's best so many are measured again beside what tune chose.
FINALISTS = 2


def on_cpu(prompts: int, tokens: int, reply: int, rounds: int) -> None:
    """Tune and the grid, on the model of the extra embedded-chat."""
    from fastinfer.models import EMBEDDED_CHAT, resolve_gguf

    # A template that ends no reply, so that all are equally long. One thread: several wait for each other, and where
    # other programs have a core now and then, that hides everything else.
    given = fastinfer.preset("embedded", kind="chat").replace(chat_template=str(PLAIN), n_threads=1)
    texts = Prompts(resolve_gguf(EMBEDDED_CHAT).model, seed=1)
    sample = [texts.text(tokens) for _ in range(prompts)]
    ladders = [
        Ladder("chat", "llama.cpp", ("throughput",), (field,), values, "the grid's values")
        for field, values in VALUES.items()
    ]
    grid, seconds = walk_grid(given, sample, reply, tokens + reply)
    budget = seconds * SHARE
    tuned = fastinfer.tune(given, sample=sample, max_tokens=reply, budget=budget, ladders=ladders)
    print(tuned, file=sys.stderr)
    best = sorted(grid, key=lambda preset: grid[preset].throughput, reverse=True)[:FINALISTS]
    chosen = named(tuned.preset)
    rivals = [preset for preset in best if named(preset) != chosen]
    final = again([tuned.preset, *rivals], sample, reply, rounds)
    # Tune may have chosen the grid's best, and is then compared with the next one.
    rival = max((named(preset) for preset in rivals), key=lambda name: statistics.median(final[name]))
    save(
        "tuning_cpu",
        f"python -m benchmarks.tuning {' '.join(sys.argv[1:])}".strip(),
        {
            "sample": {"prompts": prompts, "tokens": tokens, "reply": reply},
            "tune": {
                "budget": round(budget, 1),
                "seconds": round(tuned.seconds, 1),
                "stopped": tuned.stopped,
                "chose": chosen,
                "gain_over_the_given_preset": tuned.gain,
                "candidates": [
                    {"changes": point.changes, "verdict": point.verdict, "why": point.why, "rounds": point.rounds}
                    for point in tuned.points
                ],
            },
            "grid": {
                "combinations": len(grid),
                "seconds": round(seconds, 1),
                "best": [
                    {"values": named(preset), "tokens_per_second": round(grid[preset].throughput, 1)} for preset in best
                ],
                "given": round(grid[given].throughput, 1) if given in grid else None,
                "worst": round(min(figures.throughput for figures in grid.values()), 1),
            },
            "again": {
                "rounds": rounds,
                "tokens_per_second": {name: spread(values) for name, values in final.items()},
                "tune_by_the_grids_best": spread([a / b for a, b in zip(final[chosen], final[rival], strict=True)]),
            },
            "share_of_the_grids_time": round(tuned.seconds / seconds, 3),
        },
    )


def walk_grid(
    given: fastinfer.Preset, sample: list[str], reply: int, tokens: int
) -> tuple[dict[fastinfer.Preset, Figures], float]:
    """The throughput of every combination, and the seconds that all of them took."""
    started = time.perf_counter()
    found: dict[fastinfer.Preset, Figures] = {}
    for values in itertools.product(*VALUES.values()):
        changes = dict(zip(VALUES, values, strict=True))
        preset = given.replace(**with_room({**given.parameters.model_dump(), **changes}, tokens))
        found[preset] = measured(preset, sample, reply, max(4, 2 * preset.parallel))
        print(f"{named(preset)}: {found[preset].throughput:.1f}", file=sys.stderr, flush=True)
    return found, time.perf_counter() - started


def again(presets: list[fastinfer.Preset], sample: list[str], reply: int, rounds: int) -> dict[str, list[float]]:
    """Tokens a second of a few presets in turns, each loaded for its turn."""

    items = 2 * max(preset.parallel for preset in presets)
    return interleave({named(p): lambda p=p: measured(p, sample, reply, items).throughput for p in presets}, rounds)


def measured(preset: fastinfer.Preset, sample: list[str], reply: int, items: int) -> Figures:
    """A preset loaded, warmed up and measured with so many prompts."""
    with fastinfer.llm(preset) as llm:
        measure_chat(llm, sample, max_tokens=4, items=preset.parallel)
        return measure_chat(llm, sample, max_tokens=reply, items=items)


def named(preset: fastinfer.Preset) -> str:
    """The walked values of a preset."""
    return ", ".join(f"{field}={getattr(preset, field)}" for field in VALUES)


def on_gpu(model: Path, budget: float, prompts: int, tokens: int, reply: int) -> None:
    """The preset balanced with a large model: which numbers of slots are worth having."""
    texts = Prompts(model, seed=1)
    sample = [texts.text(tokens) for _ in range(prompts)]
    tuned = fastinfer.tune("balanced", kind="chat", model=model, sample=sample, max_tokens=reply, budget=budget)
    print(tuned, file=sys.stderr)
    found = tuned.to_dict()
    found["receipt"]["model"] = model.name  # folders tell nothing to others
    save(
        "tuning_h200",
        f"python -m benchmarks.tuning --h200 {model.name} --budget {budget:g} "
        f"--prompts {prompts} --tokens {tokens} --reply {reply}",
        {
            "sample": {"prompts": prompts, "tokens": tokens, "reply": reply},
            "given_is_beaten_in_throughput_and_latency_by": [
                point.changes for point in tuned.dominating(tuned.points[0])
            ],
            "tuned": found,
        },
    )
    replot(RESULTS / "tuning_h200.json")


def replot(result: Path) -> None:
    """Draw the plot of a result file beside it, perhaps on another machine than it was measured on."""
    tuned = Tuned.from_dict(json.loads(result.read_text("utf-8"))["tuned"])
    try:
        tuned.plot(result.with_suffix(".png"))
    except FastInferError as error:
        raise SystemExit(f"{error} Then: python -m benchmarks.tuning --replot {result.name}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--h200", type=Path, metavar="MODEL", help="the GGUF file")
    parser.add_argument("--replot", type=Path, metavar="RESULT", help="only draw the plot of a result file again")
    parser.add_argument("--budget", type=float, default=240, help="seconds for tune with --h200")
    parser.add_argument("--prompts", type=int, help="in the sample; 24 on the CPU, 64 with --h200")
    parser.add_argument("--tokens", type=int, help="of a prompt; 32 on the CPU, 500 with --h200")
    parser.add_argument("--reply", type=int, help="tokens; 16 on the CPU, 128 with --h200")
    parser.add_argument("--rounds", type=int, default=4, help="of the last comparison, on the CPU")
    a = parser.parse_args()
    if a.replot is not None:
        replot(a.replot)
    elif a.h200 is not None:
        on_gpu(a.h200, a.budget, a.prompts or 64, a.tokens or 500, a.reply or 128)
    else:
        on_cpu(a.prompts or 24, a.tokens or 32, a.reply or 16, a.rounds)


if __name__ == "__main__":
    main()
