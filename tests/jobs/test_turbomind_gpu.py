"""A folder job with the prod preset on a real GPU: killed and resumed it loses and repeats nothing.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastinfer
from turned_samples import turned_samples

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["3", "7", "a car", "a fish", "a key", "a mushroom", "a tree", "an umbrella", "a red circle", "a blue square"]
SMALL = {"cache_max_entry_count": 0.02, "dtype": "float16", "prompt": "What is this?"}
PROGRAM = """
import sys
import fastinfer
folder, output, model, labels = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split(",")
changes = {"cache_max_entry_count": 0.02, "dtype": "float16", "prompt": "What is this?"}
print(fastinfer.run(folder, output, preset="prod", labels=labels, model=model, **changes).reused)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """1,500 pictures, every one of them another, and one that is broken."""
    made = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(turned_samples(range(-70, 70))[:1500]):
        picture.save(made / f"{number:04}.png")
    (made / "broken.png").write_bytes(b"no image")
    return made


def start(folder, output):
    command = [sys.executable, "-c", PROGRAM, str(folder), str(output), str(ROOT / "training/embedded")]
    return subprocess.Popen(
        [*command, ",".join(LABELS)], stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ
    )


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_job_that_was_killed_ends_as_one_that_was_not(folder, tmp_path):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    with fastinfer.classifier("prod", labels=LABELS, model=ROOT / "training/embedded", **SMALL) as classifier:
        summary = fastinfer.run(folder, whole, using=classifier)
        assert (summary.total, summary.computed, summary.errors) == (1501, 1501, 1)
        assert summary.errors_by_type == {"ImageDecodeError": 1}
        assert classifier.classify(folder / "0000.png").ok
    kills = 0
    while not killed.exists() and kills < 3:
        job = start(folder, killed)
        deadline = time.monotonic() + 120
        journal = Path(f"{killed}.journal-wal")
        before = journal.stat().st_size if journal.exists() else 0
        while time.monotonic() < deadline and job.poll() is None:
            if journal.exists() and journal.stat().st_size > before + 50_000:
                os.killpg(job.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        job.communicate(timeout=60)
    assert kills, "the job ended before it could be killed"
    if not killed.exists():
        last = start(folder, killed)
        reused = int(last.communicate(timeout=120)[0])
        assert last.returncode == 0
        assert reused > 0
    one, other = rows(whole), rows(killed)
    assert [row["path"] for row in one] == [row["path"] for row in other]
    assert len({row["path"] for row in other}) == 1501
    assert {row["configuration"] for row in one} == {row["configuration"] for row in other}
    same = sum(a["label"] == b["label"] for a, b in zip(one, other, strict=True))
    assert same >= 0.98 * len(one), "TurboMind forms its batches itself, so that the last digits may differ"
