"""The matrix of faults, run: what was injected, by kind, and what became of it.

    python -m benchmarks.faults --output results/faults.json            # the default lane: minutes
    python -m benchmarks.faults --slow --output results/faults.json     # Ctrl-C hundreds of times, 100,000 items
    python -m benchmarks.faults --list                                  # the rows, without running them

Each row is injected by a test of tests/faults, or held in full by the tests that it names; all of them are run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import environment

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/helpers"))


def run(report: Path, *, slow: bool, only_list: bool) -> int:
    """Run the tests of all rows, or collect them; pytest's exit code."""
    from faults_covered import COVERED

    named = sorted({name for row in COVERED for name in row.by})
    lane = "not gpu and not soak" if slow else "not gpu and not slow and not soak"
    command = [sys.executable, "-m", "pytest", "tests/faults", *named, "-q", "-m", lane, "--fault-report", str(report)]
    quiet = subprocess.DEVNULL if only_list else None
    return subprocess.run([*command, *(["--collect-only"] if only_list else [])], cwd=ROOT, stdout=quiet).returncode


def show(report: dict, *, only_list: bool) -> None:
    """The table by kind, and every row that did not survive or, as a list, every row."""
    print("| kind | rows | survived | failing | not run | tests |\n|---|---|---|---|---|---|")
    for kind, count in report["counts"].items():
        numbers = [count["rows"], *(count.get(name, 0) for name in ("survived", "failing", "not run")), count["tests"]]
        print(f"| {kind} | {' | '.join(map(str, numbers))} |")
    for row in report["rows"]:
        if only_list or row["outcome"] != "survived":
            print(f"- {row['kind']}: {row['name']}: {row['outcome']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write the report there, as JSON")
    parser.add_argument("--slow", action="store_true", help="with the rows that take minutes")
    parser.add_argument("--list", action="store_true", help="collect the rows, and run none")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faults.json"
        code = run(path, slow=given.slow, only_list=given.list)
        report = json.loads(path.read_text("utf-8"))
    show(report, only_list=given.list)
    if given.output is not None:
        command = "python -m benchmarks.faults" + " --slow" * given.slow
        kept = {"command": command, "environment": environment(), **report}
        given.output.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
