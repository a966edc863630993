"""Runs every target of ``fuzzing/`` with atheris, and keeps how many inputs were tried and what was found.

    python benchmarks/fuzzing_runs.py --seconds 60

Needs the extra ``fuzz``. Ends with 1 where an input failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common import ROOT, save

sys.path.insert(0, str(ROOT))

from fuzzing.targets import NAMES

_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


def run(target: str, seconds: int) -> dict[str, Any]:
    """One target: inputs tried, and whether one failed."""
    command = [sys.executable, "-m", "fuzzing", target, "--seconds", str(seconds)]
    paths = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    found = _EXECUTED.search(done.stderr)
    if found is None:
        raise SystemExit(f"{target} did not run:\n{done.stderr[-2000:]}")
    return {"inputs": int(found[1]), "failed": done.returncode != 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        targets = dict(zip(NAMES, pool.map(lambda name: run(name, asked.seconds), NAMES), strict=True))
    command = f"python benchmarks/fuzzing_runs.py --seconds {asked.seconds}"
    save("fuzzing", command, {"seconds_each": asked.seconds, "targets": targets}, asked.out)
    return int(any(found["failed"] for found in targets.values()))


if __name__ == "__main__":
    sys.exit(main())
