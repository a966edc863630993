"""What is measured of speed: many pictures, one at a time, label sets, GPUs, the KV cache's type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..chat.child import Child
from ..chat.figures import Figures, compare, percentile
from ..common import spread
from .bench import DEFAULTS, DOCUMENTED, ENGINE, OURS, Bench, aim, summary, within_rounds
from .labels import SHORT_PROMPT, TEN, longest_names, single_tokens
from .watch import Watch, medians, power
from .work import Work

SPEED = "images_per_second"
#: By shape: images a second of ours, and how often the speed of which peer.
_AIMS: dict[str, tuple[float, dict[str, float]]] = {
    "InternVL3-8B": (110, {DOCUMENTED: 3.0}),
    "InternVL3-1B": (400, {DEFAULTS: 4.0}),
    "tiny": (1500, {}),
}
_SHARE_OF_BOUND = {"InternVL3-8B": 0.75}


def middle(found: dict[str, float] | None) -> float | None:
    """The median of a spread, where there is one."""
    return None if found is None else found["median"]


def median(rounds: Sequence[dict[str, Figures]], name: str, figure: str) -> float | None:
    """A contender's figure over the rounds; None if it has none."""
    values = [one[name][figure] for one in rounds if name in one]
    return middle(spread(values)) if values else None


def one_round(bench: Bench, sides: dict[str, Child]) -> dict[str, Figures]:
    """All contenders in turn on new pictures; the peers on the first of them."""
    images = bench.pictures(max(bench.images, bench.peer_images))
    found: dict[str, Figures] = {}
    for name, side in bench.in_turn(sides):
        count = bench.images if name.startswith(OURS) else bench.peer_images
        figures = _measured(bench, name, side, Work(images[:count]))
        if figures is not None:
            found[name] = figures
    return found


def _measured(bench: Bench, name: str, side: Child, work: Work) -> Figures | None:
    """What a contender did, and the medians of what the GPU drew and was allowed meanwhile."""
    with Watch(power) as watch:
        done = bench.ask(name, side, work)
    return None if done is None else {**summary(done), **medians(watch.samples)}


def throughput(bench: Bench) -> None:
    """Many pictures at once: images a second, over the peers', and as a share of what arithmetic allows.

    In each round also of the engine alone, with pictures that are decoded already: what ours could reach if nothing
    before the engine took time.
    """
    tflops = bench.rate_of_gpu()
    rounds: list[dict[str, Figures]] = []
    with bench.open(bench.openers()) as sides:
        for _ in range(bench.rounds):
            found = one_round(bench, sides)
            if OURS in sides:
                alone = _measured(bench, ENGINE, sides[OURS], Work(bench.pictures(bench.images), how="prepared"))
                if alone is not None:
                    found[ENGINE] = alone
            rounds.append(found)
            bench.keep({**compare(rounds, [SPEED]), **_against_aims(bench, rounds, tflops)})


def _against_aims(bench: Bench, rounds: Sequence[dict[str, Figures]], tflops: float | None) -> dict[str, Any]:
    fastest = next((name for name in rounds[-1] if name.startswith(OURS)), None)
    if fastest is None:
        return {}
    speed = median(rounds, OURS, SPEED)
    wanted, times = _AIMS.get(bench.shape, (0.0, {}))
    aims = [aim(f"images a second, {bench.shape}", wanted, speed)] if wanted else []
    for peer, least in times.items():
        ratio = within_rounds(rounds, OURS, peer, SPEED)
        aims.append(aim(f"times the speed of {peer}, {bench.shape}", least, middle(ratio)))
    limit = bench.bound(tflops, rounds[-1][fastest]["prompt_tokens"])
    if limit is not None and speed is not None:
        limit["share_reached"] = round(speed / limit["images_per_second"], 4)
        if least_share := _SHARE_OF_BOUND.get(bench.shape):
            aims.append(aim(f"share of the arithmetic bound, {bench.shape}", least_share, limit["share_reached"]))
    return {"bound": limit, "aims": aims}


def latency(bench: Bench) -> None:
    """One picture after another: milliseconds of each, all contenders in turn for every picture."""
    rounds: list[dict[str, Figures]] = []
    each: dict[str, list[float]] = {}
    with bench.open(bench.openers()) as sides:
        for _ in range(bench.rounds):
            block: dict[str, list[float]] = {}
            for image in bench.pictures(bench.images):
                for name, side in bench.in_turn(sides):
                    done = bench.ask(name, side, Work([image], how="one by one"))
                    if done is not None and done.each_ms:
                        block.setdefault(name, []).extend(done.each_ms)
            rounds.append({name: _milliseconds(values) for name, values in block.items()})
            for name, values in block.items():
                each.setdefault(name, []).extend(values)
            bench.keep({**compare(rounds, ["p50_ms"]), "all_rounds": {n: _milliseconds(v) for n, v in each.items()}})
    aims = []
    for peer in (DOCUMENTED, DEFAULTS):
        if OURS in each and peer in each:
            ratio = percentile(each[OURS], 0.5) / percentile(each[peer], 0.5)
            aims.append(aim(f"p50 of one image at a time over that of {peer}", 0.6, round(ratio, 4), at_most=True))
    bench.keep({"aims": aims})


def _milliseconds(values: Sequence[float]) -> Figures:
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    found = {name: round(percentile(values, share), 2) for name, share in shares.items()}
    return {**found, "min_ms": round(min(values), 2), "max_ms": round(max(values), 2), "images": len(values)}


def labels(bench: Bench) -> None:
    """A thousand labels over ten, with a question that does not list them: words of one token, and longer names.

    A thousand listed labels are more than the preset's limit of 512 tokens, and would be another prompt.
    """
    words = single_tokens(bench.model)
    names, tokens = longest_names(bench.model)
    sets = {"ours_10": words[:: len(words) // 10][:10], "ours_1000": words, "ours_1000_long": names}
    rounds: list[dict[str, Figures]] = []
    with bench.open({OURS: lambda: bench.ours(bench.preset, labels=TEN, prompt=SHORT_PROMPT)}) as sides:
        for name, chosen in sets.items():
            # The tries are built once, before anything is timed.
            bench.ask(name, sides[OURS], Work(bench.pictures(8), chosen))
        for _ in range(bench.rounds):
            one: dict[str, Figures] = {}
            for name, chosen in sets.items():
                count = bench.peer_images if name == "ours_1000_long" else bench.images
                done = bench.ask(name, sides[OURS], Work(bench.pictures(count), chosen))
                if done is not None:
                    one[name] = {**summary(done), "ms_an_image": round(1e3 * done.seconds / done.images, 4)}
            rounds.append(one)
            words_over_ten = within_rounds(rounds, "ours_1000", "ours_10", "ms_an_image")
            bench.keep(
                {
                    "prompt": SHORT_PROMPT,
                    "tokens_of_a_long_label": round(tokens, 2),
                    **compare(rounds, []),
                    "time_of_1000_over_10": words_over_ten,
                    "time_of_1000_long_over_10": within_rounds(rounds, "ours_1000_long", "ours_10", "ms_an_image"),
                    "aims": [
                        aim(
                            "time of 1,000 labels over that of 10",
                            1.2,
                            middle(words_over_ten),
                            at_most=True,
                        )
                    ],
                }
            )


def gpus(bench: Bench) -> None:
    """Two GPUs over one."""
    rounds: list[dict[str, Figures]] = []
    openers = {
        "ours_1_gpu": lambda: bench.ours(devices=[0]),
        "ours_2_gpus": lambda: bench.ours(devices=[0, 1]),
    }
    with bench.open(openers) as sides:
        for _ in range(bench.rounds):
            rounds.append(one_round(bench, sides))
            ratio = within_rounds(rounds, "ours_2_gpus", "ours_1_gpu", SPEED)
            bench.keep(
                {
                    **compare(rounds, []),
                    "two_over_one": ratio,
                    "aims": [aim("2 GPUs over 1", 1.9, middle(ratio))],
                }
            )
