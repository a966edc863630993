"""How the cost grows with the number of pictures: it should not."""

from __future__ import annotations

from typing import Any

from ..chat.figures import Figures, compare
from ..common import spread
from .bench import Bench, summary

_SIZES = (64, 256, 1024, 2048, 4096, 16384, 100_000)
#: Longer streams run once.
_REPEATED = 2048


def curve(bench: Bench, longest: int) -> None:
    """Images a second and memory for streams of 64 to ``longest`` pictures, of one process that stays open.

    Files are made on the way out of a few, no two alike (see ``variants``).
    """
    sizes = [size for size in _SIZES if size <= longest]
    rounds: list[dict[str, Figures]] = []
    with bench.open({"ours": lambda: bench.ours(bench.preset)}) as sides:
        for number in range(bench.rounds):
            one: dict[str, Figures] = {}
            for size in sizes:
                if number and size > _REPEATED:
                    continue
                done = bench.ask(f"{size}", sides["ours"], bench.stream(size))
                if done is not None:
                    one[f"{size}"] = {**summary(done), **done.memory}
            rounds.append(one)
            bench.keep({**compare(rounds, []), **_flatness(rounds)})


def _flatness(rounds: list[dict[str, Figures]]) -> dict[str, Any]:
    """Of streams of 1,024 and more: the slowest over the fastest, and the growth of memory from first to last."""
    long = [size for size in rounds[0] if int(size) >= 1024]
    if not long:
        return {}
    rates = [spread([one[size]["images_per_second"] for one in rounds if size in one])["median"] for size in long]
    found: dict[str, Any] = {"slowest_over_fastest": round(min(rates) / max(rates), 4)}
    for kind in ("resident_mb", "gpu_mb"):
        most = [rounds[0][size].get(f"{kind}_most") for size in long]
        known = [value for value in most if value is not None]
        if known:
            found[f"growth_of_{kind}"] = round(known[-1] - known[0], 1)
    return found
