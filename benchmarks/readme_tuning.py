"""The README's section on tuning: what its commands print, how far plans were off, and what tune found."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"```console\n(\$ fastinfer [^\n]*)\n(?:(?!```)[^\n]*\n)*```")
#: What differs from machine to machine.
_HERE = re.compile(r"[\d.]+ [GM]iB are available here, which is (?:not )?enough")


def with_outputs(text: str) -> str:
    """The text with each command's output below it."""
    return _BLOCK.sub(lambda found: f"```console\n{found[1]}\n{output(found[1])}```", text)


def with_outputs_of(other: str, text: str) -> str:
    """The text with each command's output as another text has it."""
    blocks = {found[1]: found[0] for found in _BLOCK.finditer(other)}
    return _BLOCK.sub(lambda found: blocks.get(found[1], found[0]), text)


def steady(text: str) -> str:
    """The text without what depends on the machine that printed it."""
    return _HERE.sub("", text)


def output(line: str) -> str:
    """What a command prints where the hub is not asked and no presets of one's own are near."""
    arguments = shlex.split(line.removeprefix("$ fastinfer "))
    paths = filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("FASTINFER_PRESETS", None)
    with tempfile.TemporaryDirectory() as empty:
        environment |= {"HOME": empty, "XDG_CONFIG_HOME": empty, "HF_HOME": empty}
        done = subprocess.run(
            [sys.executable, "-m", "fastinfer", *arguments],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if not done.stdout:
        raise SystemExit(f"{line}: {done.stderr}")
    return done.stdout


def memory(results: dict[str, dict[str, Any]]) -> str:
    """Planned and measured memory of every configuration that was measured.

    Args:
        results: by the name of the set.
    """
    lines = ["| measured | planned, MiB | taken, MiB | error |", "|---|---|---|---|"]
    for name, result in results.items():
        for row in result["rows"]:
            total = row["total"]
            planned, taken = f"{total['planned_mib']:,.0f}", f"{total['measured_mib']:,.0f}"
            lines.append(f"| {name}: {row['name']} | {planned} | {taken} | {total['error_percent']:+.1f} % |")
    totals = [row["total"] for result in results.values() for row in result["rows"]]
    worst = max(abs(total["error_percent"]) for total in totals if total["measured_mib"] > 256)
    commands = ", ".join(f"`{result['command']}`" for result in results.values())
    lines += [
        "",
        f"{len(totals)} configurations; of those above 256 MiB the largest error is {worst:.1f} %: {commands}.",
    ]
    return "\n".join(lines)


def tune(result: dict[str, Any]) -> str:
    """What tune found on the H200, as a table with the candidates that were measured."""
    tuned = result["tuned"]
    headings = ("H200, shape of Seed-OSS-36B", "tokens/s", "between tokens, p50", "p95", "verdict")
    lines = [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for point in tuned["points"]:
        figures = point["figures"]
        if figures is None:
            continue
        name = ", ".join(f"{field}={value}" for field, value in point["changes"].items()) or "balanced as given"
        median, late = (f"{1e3 * figures[key]:.0f} ms" for key in ("inter_token_p50", "inter_token_p95"))
        lines.append(f"| {name} | {figures['throughput']:.0f} | {median} | {late} | {point['verdict']} |")
    sample = result["sample"]
    lines += [
        "",
        f"`{result['command']}`: {sample['tokens']} tokens of prompt and {sample['reply']} of reply, "
        f"{tuned['seconds']:.0f} s. The best is {tuned['gain']:.2f} times the preset as given, by the paired rounds.",
    ]
    return "\n".join(lines)
