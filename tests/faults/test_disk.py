"""A disk that is full at any byte: an error that says so, the old file as it was, nothing in parts, and then it works.

The limit on the size of files is the system's own: a write beyond it fails as on a full disk, at the same call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fault_matrix import Fault, rows

KIND = "disk and network"
#: Bytes that may be written to a file, and whether there is an earlier one.
CASES = ((0, True), (500, False), (3000, True), (9000, False))
PROGRAM = r"""
import json, resource, signal, sys
from pathlib import Path
from PIL import Image
import fastinfer
from fastinfer.errors import FastInferError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
clf = fastinfer.classifier(labels=[f"label number {n}" for n in range(30)], workers=1, n_threads=1)
folder = Path("pictures")
folder.mkdir()
for number in range(3):
    Image.effect_noise((12, 12), 20 + number).save(folder / f"{number}.png")
results = list(clf.classify_many(sorted(folder.iterdir())))
images = [Image.effect_noise((12, 12), 20 + number).convert("RGB") for number in range(12)]
clf.labels = ["a", "b"]
calibration = clf.calibrate([(image, "a") for image in images], coverage=0.5)
clf.calibration = None
clf.labels = [f"label number {n}" for n in range(30)]
preset = fastinfer.preset("embedded", kind="classify").replace(prompt="What is it? " * 300)
report = fastinfer.report(results)
writes = {
    "a job's rows as JSON lines": ("rows.jsonl", lambda path: fastinfer.run(folder, path, using=clf, overwrite=True)),
    "a job's rows as Parquet": ("rows.parquet", lambda path: fastinfer.run(folder, path, using=clf, overwrite=True)),
    "a report": ("report.html", lambda path: report.save(path)),
    "a preset": ("fastinfer.toml", lambda path: preset.save(path, name="mine", overwrite=True)),
    "a calibration": ("calibration.json", lambda path: calibration.save(path)),
    "results": ("results.jsonl", lambda path: fastinfer.Results(results).to_jsonl(path)),
}
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
found = {}
for name, (file, write) in writes.items():
    path, found[name] = Path(file), []
    for limit, old in CASES:
        for stale in Path().glob(f"{file}*"):
            stale.unlink()
        before = b"# what was there\n" if old else None
        if old:
            path.write_bytes(before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        try:
            write(path)
            told = None
        except FastInferError as error:
            told = [type(error).__name__, bool(error.hint), type(error.__cause__).__name__]
        except BaseException as error:
            told = ["no error of ours: " + repr(error), False, ""]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        left = path.read_bytes() if path.exists() else None
        hidden = [p.name for p in Path().iterdir() if p.name.startswith(".")]
        write(path)
        whole = path.read_bytes()
        found[name].append(dict(
            limit=limit, told=told, hidden=hidden, as_before=left == before, whole=left == whole, size=len(whole),
        ))
clf.close()
print(json.dumps(found))
"""
NAMES = ("a job's rows as JSON lines", "a job's rows as Parquet", "a report", "a preset",
         "a calibration", "results")  # fmt: skip
FAULTS = tuple(Fault(KIND, f"a full disk under {name}", name) for name in NAMES)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    code = PROGRAM.replace("in CASES", f"in {CASES!r}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path_factory.mktemp("full"),
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
@pytest.mark.parametrize(**rows(FAULTS))
def test_nothing_in_parts_is_left_and_afterwards_it_works(fault, written):
    failed = 0
    for case in written[fault.inject]:
        assert case["hidden"] == [], case
        assert case["whole" if case["told"] is None else "as_before"], case
        if case["told"] is not None:
            failed += 1
            kind, hint, cause = case["told"]
            assert kind.endswith("Error"), case
            assert hint, case
            assert cause != "NoneType", case
    assert failed >= 2
    assert len({case["size"] for case in written[fault.inject]}) <= 2
