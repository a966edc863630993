"""The command line."""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..common import ROOT, environment
from .agreement import parity, quant
from .bench import CONTENDERS, DEFAULTS, DOCUMENTED, EMBEDDED, OURS, Bench
from .growth import curve
from .speed import gpus, labels, latency, throughput

PARTS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput,
    "latency": latency,
    "labels": labels,
    "gpus": gpus,
    "parity": parity,
    "quant": quant,
}
CURVE = "curve"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classify_gpu",
        description="Classification beside lmdeploy.pipeline and lmdeploy serve api_server.",
    )
    parser.add_argument("part", choices=[*PARTS, CURVE])
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint's folder in Hugging Face's form")
    parser.add_argument("--shape", choices=["InternVL3-8B", "InternVL3-1B", "tiny"], default="tiny")
    parser.add_argument("--trained", type=Path, help="for quant: a checkpoint whose answers mean something")
    parser.add_argument("--out", type=Path, help="the result file; else under benchmarks/results")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help=f"{EMBEDDED} alone runs on any CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=512, help="pictures a round for ours, or in all where answers are compared"
    )
    parser.add_argument("--peer-images", type=int, default=128, help="pictures a round for the peers")
    parser.add_argument("--longest", type=int, default=100_000, help="for curve: pictures of the longest stream")
    parser.add_argument("--limit", type=float, default=300, help="seconds that a start, or a workload, may take")
    return parser.parse_args()


def contenders(given: list[str] | None, part: str) -> list[str]:
    """Those asked for, or those that the part is about."""
    if given:
        return given
    if part == "latency":
        return [OURS, DOCUMENTED, DEFAULTS]
    return [name for name in CONTENDERS if name != EMBEDDED] if part == "throughput" else [OURS]


def machine(model: Path) -> dict[str, Any]:
    """Hardware, versions and commit; and the model, whose files are in a folder."""
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return {
        **environment(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "model": {"name": model.name, "bytes": weights},
    }


def show(content: dict[str, Any]) -> None:
    """The figures' medians, and the aims."""
    for name, figures in content.get("figures", {}).items():
        print(f"{name}: " + ", ".join(f"{figure} {value['median']:g}" for figure, value in figures.items()))
    for found in content.get("aims", []):
        print(f"{found['what']}: {found['measured']} (aim {found['aim']})")
    if limit := content.get("bound"):
        rate = limit["matrix_product_tflops"]
        print(f"arithmetic bound: {limit['images_per_second']} images a second at {rate} TFLOP/s")


def main() -> int:
    a = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the contenders are closed
    os.environ.setdefault("TM_LOG_LEVEL", "ERROR")
    content: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.classify_gpu", *sys.argv[1:]]),
        "environment": machine(a.model),
        "settings": {
            "part": a.part,
            "shape": a.shape,
            "rounds": a.rounds,
            "images_a_round": a.images,
            "peer_images_a_round": a.peer_images,
        },
    }
    bench = Bench(
        model=a.model.resolve(),
        shape=a.shape,
        trained=a.trained.resolve() if a.trained else None,
        wanted=contenders(a.contenders, a.part),
        rounds=a.rounds,
        images=a.images,
        peer_images=a.peer_images,
        limit=a.limit,
        on_gpu=bool(content["environment"]["gpus"]),
        out=a.out or ROOT / f"benchmarks/results/classify_gpu_{a.part}.json",
        content=content,
    )
    begun = time.perf_counter()
    failed = False
    try:
        if a.part == CURVE:
            curve(bench, a.longest)
        else:
            PARTS[a.part](bench)
    except Exception:  # noqa: BLE001  what was measured before still counts
        failed = True
        bench.note_error(a.part, traceback.format_exc())
    show(content)
    print(f"{a.part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return int(failed or "errors" in content)
