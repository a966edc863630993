"""llama-batched-bench: what the engine does without a server, sampling or text; the bound of all sides."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .figures import Figures
from .profile import Profile
from .server import shared_flags


def batched_bench(
    binaries: Path, model: Path, profile: Profile, prompt: int, reply: int, sequences: Sequence[int]
) -> dict[int, Figures]:
    """Tokens a second for each number of sequences, prompts evaluated together and then replies.

    ``tokens_per_second`` counts generated tokens over the time of both, as the other sides' does.
    """
    command = [str(binaries / "llama-batched-bench"), "-m", str(model), *shared_flags(profile)]
    command += ["-npp", str(prompt), "-ntg", str(reply), "-npl", ",".join(map(str, sequences))]
    command += ["--output-format", "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not rows:
        raise RuntimeError(f"llama-batched-bench ended with {done.returncode}: {done.stderr[-1000:]}")
    return {
        row["pl"]: {
            "tokens_per_second": round(row["pl"] * row["tg"] / row["t"], 2),
            "decode_all": round(row["speed_tg"], 2),
            "decode_per_reply": round(row["speed_tg"] / row["pl"], 2),
            "gap_p50_ms": round(1000 * row["t_tg"] / row["tg"], 2),
            "prefill_per_second": round(row["speed_pp"], 1),
        }
        for row in rows
    }
