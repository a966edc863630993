"""Folder jobs: their rate beside classify_many, their bytes after random kills, and what they take of memory.

python benchmarks/jobs.py rate      # a job and classify_many on the same files, in turn
python benchmarks/jobs.py kills     # SIGKILL at random moments; the output's bytes are those of a job not killed
python benchmarks/jobs.py growth    # a job of 100,000 rows
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import psutil
from common import EVERYDAY, interleave, save, spread
from PIL import Image

import fastinfer
from fastinfer.jobs.writers import read

SAMPLES = Path(fastinfer.__file__).parent / "samples"


def photographs(folder: Path, count: int, size: int) -> list[str]:
    """So many JPEG files, no two of the same bytes: the samples, each turned by another angle; their paths in order."""
    originals = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.[jp][pn]g"))]
    paths = []
    for number in range(count):
        turned = originals[number % len(originals)].rotate(number * 0.37, fillcolor="white")
        path = folder / f"{number:06}.jpg"
        turned.resize((size, size)).save(path, quality=90, comment=path.name.encode())
        paths.append(str(path))
    return paths


def specks(folder: Path, count: int) -> None:
    """So many PNG files of 4x4 pixels, all different, a thousand in a folder."""
    for number in range(count):
        path = folder / f"{number // 1000:04}" / f"{number:07}.png"
        path.parent.mkdir(exist_ok=True)
        Image.frombytes("RGB", (4, 4), number.to_bytes(48, "little")).save(path)


def rate(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    photos = folder / "photos"
    photos.mkdir()
    paths = photographs(photos, arguments.images, arguments.size)
    with fastinfer.classifier(arguments.preset, model=arguments.model, labels=arguments.labels) as classifier:

        def timed_job() -> float:
            output = Path(tempfile.mkdtemp(dir=folder), f"out.{arguments.form}")
            begun = time.perf_counter()
            summary = fastinfer.run(photos, output, using=classifier)
            seconds = time.perf_counter() - begun
            assert summary.computed == len(paths), summary
            return len(paths) / seconds

        def timed_stream(reproducible: bool) -> float:
            begun = time.perf_counter()
            results = classifier.classify_many(paths, errors="return", reproducible=reproducible)
            assert sum(result.ok for result in results) == len(paths)
            return len(paths) / (time.perf_counter() - begun)

        runs = {"classify_many": lambda: timed_stream(False), "job": timed_job}
        if classifier.group_size is not None:
            runs["classify_many_reproducible"] = lambda: timed_stream(True)
        interleave(runs, 1)
        processor: dict[str, list[float]] = {name: [] for name in runs}

        def counted(name: str) -> float:
            begun = time.process_time()
            per_second = runs[name]()
            processor[name].append((time.process_time() - begun) * 1e3 / len(paths))
            return per_second

        measured = interleave({name: partial(counted, name) for name in runs}, arguments.rounds)
    pairs = zip(measured["job"], measured["classify_many"], strict=True)
    return {
        "preset": arguments.preset,
        "model": Path(arguments.model).name if arguments.model else arguments.preset,
        "labels": len(arguments.labels),
        "images": len(paths),
        "pixels": [arguments.size, arguments.size],
        "form": arguments.form,
        "rounds": arguments.rounds,
        "images_per_second": {name: spread(values) for name, values in measured.items()},
        "processor_ms_per_image": {name: spread(values) for name, values in processor.items()},
        "ratio_of_job_to_classify_many": spread([job / stream for job, stream in pairs]),
    }


def kills(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    photos = folder / "photos"
    photos.mkdir()
    specks(photos, arguments.images)
    for number, path in enumerate(sorted(photos.glob("*/*.png"))):
        if number % 10 == 0:
            path.with_name(f"{path.stem}-twin.png").write_bytes(path.read_bytes())
        if number % 25 == 0:
            path.with_name(f"{path.stem}-broken.png").write_bytes(path.read_bytes()[:40])
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.glob("*/*.png"))]
    (folder / "labels.txt").write_text("\n".join(EVERYDAY), "utf-8")

    def start(output: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fastinfer", "classify", str(photos), "-o", str(output)]
        command += ["--labels-file", str(folder / "labels.txt")]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    whole = folder / f"whole.{arguments.form}"
    begun = time.perf_counter()
    assert start(whole).wait() == 1, "broken images are errors"
    longest = time.perf_counter() - begun

    moments = random.Random(arguments.seed)
    killed = jobs = lost = repeated = other_bytes = 0
    runs_of_a_job: list[int] = []
    while killed < arguments.kills:
        jobs += 1
        output = folder / f"{jobs}.{arguments.form}"
        runs = 0
        while True:
            runs += 1
            process = start(output)
            try:
                process.wait(moments.uniform(0, longest) if killed < arguments.kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
            if process.wait() == -signal.SIGKILL:
                killed += 1
                continue
            assert process.returncode == 1, process.returncode
            break
        runs_of_a_job.append(runs)
        found = [row["path"] for row in read(output)]
        lost += len(set(names) - set(found))
        repeated += len(found) - len(set(found))
        other_bytes += output.read_bytes() != whole.read_bytes()
    return {
        "rows": len(names),
        "form": arguments.form,
        "seed": arguments.seed,
        "seconds_of_a_run_that_is_not_killed": round(longest, 2),
        "kills": killed,
        "jobs": jobs,
        "runs_of_a_job": spread([float(runs) for runs in runs_of_a_job]),
        "rows_lost": lost,
        "rows_repeated": repeated,
        "outputs_with_other_bytes": other_bytes,
    }


def growth(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    few, many = folder / "few", folder / "many"
    for where, count in ((few, 1000), (many, arguments.rows)):
        where.mkdir()
        specks(where, count)
    process, ended = psutil.Process(), threading.Event()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, process.memory_info().rss)

    with fastinfer.classifier(labels=EVERYDAY) as classifier:
        fastinfer.run(few, folder / f"few.{arguments.form}", using=classifier)
        before = process.memory_info().rss
        watcher = threading.Thread(target=watch)
        watcher.start()
        summary = fastinfer.run(many, folder / f"many.{arguments.form}", using=classifier)
        ended.set()
        watcher.join()
    assert summary.computed == arguments.rows, summary
    return {
        "rows": summary.total,
        "form": arguments.form,
        "rows_per_second": round(summary.total / summary.seconds, 1),
        "bottleneck": summary.bottleneck,
        "resident_mb_before": round(before / 2**20, 1),
        "peak_growth_mb": round((peak - before) / 2**20, 1),
        "output_mb": round(summary.output.stat().st_size / 2**20, 1),
        "journal_mb": round(summary.journal.stat().st_size / 2**20, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "kills", "growth"])
    parser.add_argument("--form", choices=["parquet", "jsonl", "csv"], default="parquet")
    parser.add_argument("--preset", default="embedded", help="of rate")
    parser.add_argument("--model", help="of rate")
    parser.add_argument("--labels", nargs="+", default=EVERYDAY, help="of rate")
    parser.add_argument("--images", type=int, help="of rate, 2000, and of kills, 300")
    parser.add_argument("--size", type=int, default=320, help="pixels a side, of rate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="another file than results/jobs_WHAT.json")
    arguments = parser.parse_args()
    arguments.images = arguments.images or {"rate": 2000, "kills": 300, "growth": 0}[arguments.what]
    with tempfile.TemporaryDirectory() as folder:
        figures = {"rate": rate, "kills": kills, "growth": growth}[arguments.what](arguments, Path(folder))
    command = f"python benchmarks/jobs.py {arguments.what}"
    if arguments.preset != "embedded":
        command += f" --preset {arguments.preset} --model MODEL"
    if arguments.what == "rate":
        command += f" --images {arguments.images} --rounds {arguments.rounds}"
    save(f"jobs_{arguments.what}", command, figures, arguments.out)


if __name__ == "__main__":
    main()
