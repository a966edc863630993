"""Percentiles, ratios within a round, the machine, and the result file."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import common
from ..common import spread
from .workload import Record, Run

Figures = dict[str, float]
_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+")


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which ``share`` of the values are, between neighbours if need be; 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def gaps(records: Iterable[Record], begin: float = 0.0, end: float = float("inf")) -> list[float]:
    """Milliseconds between neighbouring pieces of a reply, where any of them lies between ``begin`` and ``end``."""
    return [
        (b - a) * 1000
        for record in records
        for a, b in zip(record.pieces, record.pieces[1:], strict=False)
        if b > begin and a < end
    ]


def gap_figures(values: Sequence[float], name: str = "gap") -> Figures:
    return {
        f"{name}_p50_ms": round(percentile(values, 0.5), 2),
        f"{name}_p95_ms": round(percentile(values, 0.95), 2),
        f"{name}_max_ms": round(max(values, default=0.0), 2),
    }


def summary(run: Run) -> Figures:
    """What a run shows: tokens a second, time to the first piece, time between pieces."""
    good = [r for r in run.records if r.error is None and r.pieces]
    first = [(r.pieces[0] - r.started) * 1000 for r in good]
    tokens = sum(r.counts.get("completion_tokens", len(r.pieces)) for r in good)
    pieces = sum(len(r.pieces) for r in good)
    own = [
        (r.counts.get("completion_tokens", len(r.pieces)) - 1) / (r.pieces[-1] - r.pieces[0])
        for r in good
        if r.pieces[-1] > r.pieces[0]
    ]
    found: Figures = {
        "tokens_per_second": round(tokens / run.seconds, 2),
        "ttft_p50_ms": round(percentile(first, 0.5), 1),
        "ttft_p95_ms": round(percentile(first, 0.95), 1),
        **gap_figures(gaps(good)),
        "decode_per_reply": round(percentile(own, 0.5), 2),
        "seconds": round(run.seconds, 3),
        "prompt_tokens": percentile((r.counts.get("prompt_tokens", 0) for r in good), 0.5),
        "completion_tokens": tokens,
        "cached_tokens": sum(r.counts.get("cached_tokens", 0) for r in good),
        "tokens_per_piece": round(tokens / pieces, 3) if pieces else 0.0,
        "failed": len(run.records) - len(good),
        "cores_elsewhere": round(run.elsewhere, 2),
    }
    return found


def compare(rounds: Sequence[dict[str, Figures]], names: Sequence[str]) -> dict[str, Any]:
    """Every side's figures over the rounds, and for ``names`` the ratios of ours to each peer within a round."""
    sides = list(dict.fromkeys(side for one in rounds for side in one))
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for side in sides:
        measured = [one[side] for one in rounds if side in one]
        present = dict.fromkeys(name for figure in measured for name in figure)
        figures[side] = {name: spread([figure[name] for figure in measured if name in figure]) for name in present}
    for ours in (side for side in sides if side.startswith("ours")):
        for peer in (side for side in sides if not side.startswith("ours")):
            found = {}
            for name in names:
                pairs = [(one.get(ours, {}).get(name), one.get(peer, {}).get(name)) for one in rounds]
                values = [a / b for a, b in pairs if a is not None and b]
                if values:
                    found[name] = spread(values)
            if found:
                ratios[f"{ours} / {peer}"] = found
    return {"rounds": len(rounds), "figures": figures, "ratios": ratios}


def cpu_seconds(own: Sequence[int]) -> float:
    """CPU time that everything but these processes has taken since the machine started; 0 where Linux is not."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, steal = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    ticks = user + nice + system + irq + soft + steal
    for pid in own:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks -= int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def environment(model: Path, binaries: Path | None) -> dict[str, Any]:
    """Hardware, versions, commit, and the model's file."""
    built = _output([str(binaries / "llama-server"), "--version"]) if binaries else ""
    return {
        **common.environment(),
        "load_average_before": round(os.getloadavg()[0], 2),
        "llama_cpp": next((line for line in built.splitlines() if line.startswith("version")), "unknown"),
        "library": os.environ.get("LLAMA_CPP_LIB_PATH", "of llama-cpp-python"),
        "model": {"file": model.name, "bytes": model.stat().st_size},
    }


def print_table(content: dict[str, Any]) -> None:
    """A line for each side of each scenario: medians, with the lowest and highest round; then the ratios."""
    for scenario, found in content.items():
        if not isinstance(found, dict) or "figures" not in found:
            continue
        print(f"\n{scenario}, {found['rounds']} rounds")
        for side, figures in [*found["figures"].items(), *found["ratios"].items()]:
            shown = ", ".join(f"{n} {_short(v)}" for n, v in figures.items())
            print(f"  {side}: {shown}")


def _short(value: dict[str, float]) -> str:
    middle, low, high = (f"{value[name]:.4g}" for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def without_folders(value: Any) -> Any:
    """The same with absolute paths cut down to the names of files: folders tell nothing to others."""
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_folders(item) for item in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def save(path: Path, content: dict[str, Any]) -> None:
    """Write the result file; it is always complete, also after an interruption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".part")
    new.write_text(json.dumps(without_folders(content), indent=1, ensure_ascii=False) + "\n", "utf-8")
    new.replace(path)


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return ""
    return (done.stdout.strip() or done.stderr.strip()) if done.returncode == 0 else ""
