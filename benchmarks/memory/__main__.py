"""python -m benchmarks.memory llama-cpu | llama-h200 --model seed.gguf | turbomind-h200 --model FOLDER --small FOLDER

For each configuration: what ``fastinfer.plan`` says, then what a process of its own took that loaded it and worked with
it. Every part that the engine reports itself is compared too. Writes ``results/memory_<set>.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from benchmarks.common import ROOT, save

_MIB = 2**20
Row = tuple[str, str, str, str, dict[str, Any]]


def configurations(chosen: str, model: str, small: str) -> list[Row]:
    """Name, kind, preset, model and changes of each configuration."""
    if chosen == "llama-cpu":
        chat = ("chat", "embedded", "embedded-chat")
        classify = ("classify", "embedded", "embedded")
        return [
            ("chat, 4 slots, 8k tokens", *chat, {}),
            ("chat, 8 slots, 16k tokens", *chat, {"parallel": 8, "n_ctx": 16384, "n_ubatch": 1024}),
            ("chat, 32k tokens in q8_0", *chat, {"n_ctx": 32768, "type_k": "q8_0", "type_v": "q8_0"}),
            ("classify", *classify, {}),
            ("classify, one worker", *classify, {"workers": 1}),
            ("classify, 32k tokens", *classify, {"n_ctx": 32768, "n_batch": 4096}),
        ]
    if chosen == "llama-h200":
        seed = ("chat", "balanced", model)
        return [
            ("balanced, 32k tokens", *seed, {}),
            ("low-latency, 16k tokens", "chat", "low-latency", model, {}),
            ("long-context, 32k tokens", "chat", "long-context", model, {}),
            ("balanced, n_ubatch 1024", *seed, {"n_ubatch": 1024}),
            ("balanced, f16 cache", *seed, {"type_k": "f16", "type_v": "f16"}),
            ("balanced, one cache for all slots", *seed, {"kv_unified": True}),
            ("32 slots, 64k", *seed, {"parallel": 32, "n_ctx": 65536}),
        ]
    return [
        ("8B, prod", "classify", "prod", model, {}),
        ("8B, prod-exact", "classify", "prod-exact", model, {}),
        ("8B, half of what is free", "classify", "prod", model, {"cache_max_entry_count": 0.5}),
        ("8B, 8 images at once", "classify", "prod", model, {"max_batch_size": 8}),
        ("1B, prod", "classify", "prod", small, {}),
    ]


def measured(row: Row, gpu: bool) -> dict[str, Any]:
    """What a process took."""
    import fastinfer

    _, kind, preset, model, changes = row
    engine = fastinfer.preset(preset, kind=kind).parameters.backend
    asked = {
        "kind": kind, "preset": preset, "model": model, "changes": changes, "gpu": gpu, "engine": engine,
        # Enough to fill a micro-batch.
        "words": 2400 if gpu else 600,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory.take", json.dumps(asked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{row[0]}: {done.stderr[-2000:]}")
    taken: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return taken


def compared(plan: Any, taken: dict[str, Any], gpu: bool) -> dict[str, Any]:
    """Planned and measured MiB, in all and part by part, with the plan's error in per cent."""
    parts: dict[str, float] = {}
    for part in plan.parts_of("gpu" if gpu else "host"):
        parts[part.name] = parts.get(part.name, 0.0) + part.size / _MIB
    total = taken["steps"]["worked"]["gpu_most" if gpu else "resident"]
    told = _told(taken["buffers"], gpu)
    if plan.kind == "classify":
        told.pop("compute buffers", None)  # the image encoder reports its own under the same name
    rows = {name: _pair(parts[name], told[name]) for name in told if name in parts}
    rest = [name for name in parts if name not in told]
    rows[" and ".join(rest)] = _pair(sum(parts[name] for name in rest), total - sum(told.values()))
    return {"total": _pair(sum(parts.values()), total), "parts": rows}


def _told(buffers: dict[str, float], gpu: bool) -> dict[str, float]:
    """MiB of each part as llama.cpp reports its buffers; TurboMind reports none."""
    names = {"weights": "model", "KV cache": "KV", "compute buffers": "compute", "logits": "output"}
    found = {}
    for part, kind in names.items():
        sizes = [size for key, size in buffers.items() if key.endswith(f" {kind}") and key.startswith("CUDA0") == gpu]
        if sizes:
            found[part] = sum(sizes)
    return found


def _pair(planned: float, taken: float) -> dict[str, float]:
    error = 100 * (planned - taken) / taken if taken else 0.0
    return {"planned_mib": round(planned, 1), "measured_mib": round(taken, 1), "error_percent": round(error, 2)}


def main() -> None:
    import fastinfer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", choices=("llama-cpu", "llama-h200", "turbomind-h200"))
    parser.add_argument("--model", default="", help="Seed-OSS-36B's shape in GGUF, or InternVL3-8B's as a checkpoint")
    parser.add_argument("--small", default="", help="InternVL3-1B's shape")
    parser.add_argument("--only", help="only configurations with this in their name")
    options = parser.parse_args()
    gpu = options.chosen != "llama-cpu"
    rows = []
    for row in configurations(options.chosen, options.model, options.small):
        if options.only and options.only not in row[0]:
            continue
        name, kind, preset, model, changes = row
        plan = fastinfer.plan(preset, kind=kind, model=model, gpu=None if gpu else "cpu", **changes)
        result = compared(plan, measured(row, gpu), gpu)
        rows.append({"name": name, "preset": preset, "changes": changes, **result})
        print(name, result["total"], file=sys.stderr, flush=True)
        # After every row, so that a run that is cut short leaves what it has.
        worst = max(abs(row["total"]["error_percent"]) for row in rows)
        command = f"python -m benchmarks.memory {options.chosen}"
        save(f"memory_{options.chosen.replace('-', '_')}", command, {"largest_error_percent": worst, "rows": rows})


if __name__ == "__main__":
    main()
