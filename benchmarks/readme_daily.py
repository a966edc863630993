"""The README's table of the daily work: jobs, calibration, metrics and Ray, each figure beside its aim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["daily"]

LEAST_RATE = 0.97
RATES = {
    "rate": "the embedded preset on two cores",
    "rate_h200": "InternVL3-1B's shape on an H200",
    "rate_h200_tiny": "the embedded model on an H200",
}


def daily(result: Callable[[str], dict[str, Any]]) -> str:
    """A row for each figure.

    Args:
        result: the content of a file of results by its name.
    """
    kills, growth = result("jobs_kills"), result("jobs_growth")
    calibration, ray, rays = result("calibration"), result("ray_cpu"), result("ray_h200_x2")
    metrics, metrics_gpu = result("metrics"), result("metrics_h200")
    rows = [
        *(rate(result(f"jobs_{name}"), where) for name, where in RATES.items()),
        (
            f"rows lost, repeated, and outputs with other bytes, after {kills['kills']} SIGKILLs at random moments",
            "0, 0, 0",
            f"{kills['rows_lost']}, {kills['rows_repeated']}, {kills['outputs_with_other_bytes']}",
            kills,
        ),
        (
            f"growth of the process over a job of {growth['rows']:,} rows, MB",
            "< 100",
            f"{growth['peak_growth_mb']:.0f}",
            growth,
        ),
        *coverages(calibration),
        ("images a second over Ray, two actors of a core each, over one process of both", "≥ 0.9", over(ray), ray),
        ("the same with two H200s, prod, an actor on each", "≥ 0.9", over(rays), rays),
        *watched(metrics, "the embedded preset"),
        *watched(metrics_gpu, "prod on an H200"),
    ]
    lines = ["| what | aim | measured | command |", "|---|---|---|---|"]
    lines += [f"| {what} | {aim} | {measured} | `{found['command']}` |" for what, aim, measured, found in rows]
    return "\n".join(lines)


def rate(found: dict[str, Any], where: str) -> tuple[str, str, str, dict[str, Any]]:
    """A job's images a second beside those of a stream of the same files."""
    stream = found["images_per_second"]["classify_many"]["median"]
    measured = between(found["ratio_of_job_to_classify_many"])
    what = f"images a second of a folder job over those of `classify_many`, {where} ({stream:.0f} a second)"
    short = "" if found["ratio_of_job_to_classify_many"]["median"] >= LEAST_RATE else ", short of it"
    return what, f"≥ {LEAST_RATE}", f"{measured}{short}", found


def between(figure: dict[str, float]) -> str:
    return f"{figure['median']:.3f} ({figure['min']:.3f} to {figure['max']:.3f})"


def over(found: dict[str, Any]) -> str:
    return between(found["ray_over_one_process"])


def coverages(found: dict[str, Any]) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Mean coverage on the other half of the digits, over the random halves."""
    asked = found["digits"]["coverage"]
    held = ", ".join(f"{asked[name]['same_images']['mean']:.3f}" for name in asked)
    what = f"coverage of prediction sets on held-out digits where {', '.join(asked)} were asked"
    return [(what, "within 0.02", held, found)]


def watched(found: dict[str, Any], where: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Throughput while metrics are fetched, and what counting takes of an image."""
    paired = found["fetched_by_alone"]
    counting = found["counting_by_image"]
    return [
        (
            f"images a second with the metrics fetched each second over without, {where}",
            "≥ 0.99",
            f"{paired['median']:.3f} ± {paired['margin']:.3f}",
            found,
        ),
        (f"counting, of an image's time, {where}", "< 1 %", f"{counting:.2%}", found),
    ]
