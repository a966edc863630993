"""``python -m benchmarks.chat``: see the package."""

from __future__ import annotations

# Before anything that imports numpy: a build with a C++ library of its own crashes loading a model otherwise.
import llama_cpp  # noqa: F401  isort: skip

import argparse
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common import ROOT
from .figures import environment, print_table
from .probes import alone, interference, python
from .profile import PROFILES
from .prompts import Prompts
from .scenarios import prefix, slots, throughput
from .sides import BOUND, LLAMA, OURS, SERVER, Bench

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "throughput": throughput,
    "slots": slots,
    "prefix": prefix,
    "interference": interference,
    "alone": alone,
    "python": python,
}
PLAIN = Path(__file__).parent / "plain.jinja"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chat", description="Chat beside llama-server, Llama and llama-batched-bench."
    )
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/chat.json")
    parser.add_argument("--preset", choices=PROFILES, default="balanced")
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", default="8,9,12,16,24,32,48,64", help="for the scenario of that name")
    parser.add_argument("--quick", action="store_true", help="little work, to see whether everything runs")
    parser.add_argument("--sides", nargs="+", choices=[OURS, SERVER, LLAMA, BOUND], help="all unless given")
    parser.add_argument("--peers-only", action="store_true", help="without ours")
    parser.add_argument("--binaries", type=Path, help="folder of llama-server; else LLAMA_CPP_LIB_PATH, PATH")
    parser.add_argument("--chat-template", help="a Jinja file, or plain; else the GGUF's")
    parser.add_argument("--ours", nargs="*", default=[], metavar="KEY=VALUE", help="changes of ours to its preset")
    parser.add_argument("--clients", choices=["threads", "asyncio"], default="threads", help="how ours is driven")
    parser.add_argument("--server-flag", nargs="*", default=[], help="more flags for llama-server: --server-flag=-kvu")
    parser.add_argument("--limit", type=float, default=900, help="seconds that a start, or a workload, may take")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the prompts")
    return parser.parse_args()


def binaries(given: Path | None) -> Path:
    """The folder with llama-server."""
    if given is None and (library := os.environ.get("LLAMA_CPP_LIB_PATH")) and Path(library, "llama-server").exists():
        given = Path(library)
    if given is None and (found := shutil.which("llama-server")):
        given = Path(found).parent
    if given is None or not (given / "llama-server").exists():
        raise SystemExit("llama-server was not found: name its folder with --binaries or LLAMA_CPP_LIB_PATH.")
    return given.resolve()


def template(given: str | None) -> Path | None:
    """The Jinja file for all sides; ours gets the path too, for by name some of fastinfer's also end replies."""
    if given is None:
        return None
    file = PLAIN if given == "plain" else Path(given)
    if not file.exists():
        raise SystemExit(f"There is no file {given}.")
    return file.resolve()


def value(text: str) -> Any:
    """A number, true, false or null as JSON has it, or else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main() -> int:
    a = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the sides are closed
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # no debugger is to hold up a process that aborts
    folder = binaries(a.binaries)
    profile = PROFILES[a.preset].quick() if a.quick else PROFILES[a.preset]
    wanted = frozenset(a.sides or (OURS, SERVER, LLAMA, BOUND)) - (frozenset({OURS}) if a.peers_only else frozenset())
    content: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.chat", *sys.argv[1:]]),
        "environment": environment(a.model, folder),
        "settings": {**asdict(profile), "seed": a.seed, "chat_template": a.chat_template or "the model's own"},
    }
    bench = Bench(
        model=a.model.resolve(),
        binaries=folder,
        profile=profile,
        template=template(a.chat_template),
        changes={key: value(text) for key, _, text in (change.partition("=") for change in a.ours)},
        clients=a.clients,
        limit=a.limit,
        wanted=wanted,
        rounds=a.rounds,
        slots=[int(count) for count in a.slots.split(",")],
        server_flags=a.server_flag,
        prompts=Prompts(a.model, a.seed),
        out=a.out,
        content=content,
    )
    failed = False
    for scenario in a.scenario:
        print(f"{scenario} ...", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        try:
            SCENARIOS[scenario](bench)
        except Exception:  # noqa: BLE001  the other scenarios still count
            failed = True
            bench.keep(scenario, {**content.get(scenario, {}), "error": traceback.format_exc()})
            traceback.print_exc()
        print(f"{scenario}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print_table(content)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
