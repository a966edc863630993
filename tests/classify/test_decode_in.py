"""Where images are decoded changes nothing but the speed."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from PIL import Image

import fastinfer
from fastinfer.errors import ImageDecodeError

SAMPLES = sorted(Path(fastinfer.__file__).parent.joinpath("samples").glob("*.png"))
LABELS = ["fish", "key", "umbrella", "red circle", "blue square"]


@pytest.fixture(scope="module")
def both():
    with (
        fastinfer.classifier(labels=LABELS) as threads,
        fastinfer.classifier(labels=LABELS, decode_in="processes", decode_workers=2) as processes,
    ):
        yield threads, processes


def shown(result):
    return result.source, result.label, pytest.approx(result.probabilities, abs=1e-3), str(result.error)


def test_sources_of_all_kinds_give_the_same(both):
    threads, processes = both
    damaged = SAMPLES[0].read_bytes()[:100]
    array = Image.open(SAMPLES[1]).convert("RGB")
    sources = [*SAMPLES, str(SAMPLES[0]), SAMPLES[1].read_bytes(), array, damaged, b"", Path("not-there.png")]
    here = threads.classify_many(sources, errors="return")
    there = processes.classify_many(sources, errors="return")
    for one, other in zip(here, there, strict=True):
        assert (other.source, other.label, other.probabilities, str(other.error)) == shown(one)


def test_one_by_one_and_async_too(both):
    _, processes = both
    result = processes.classify(SAMPLES[0])
    assert asyncio.run(processes.aclassify(SAMPLES[0])).label == result.label
    with pytest.raises(ImageDecodeError, match="truncated"):
        processes.classify(SAMPLES[0].read_bytes()[:100])


def test_a_program_that_forgets_to_close_ends_quietly(run_python):
    done = run_python(
        "import fastinfer, itertools, sys\n"
        "classifier = fastinfer.classifier(decode_in='processes', decode_workers=2)\n"
        "results = classifier.classify_many(itertools.repeat(sys.argv[1]))\n"
        "print(next(results).ok)",
        str(SAMPLES[0]),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_script_needs_no_main_guard(tmp_path, run_python):
    """Unlike multiprocessing's, these processes do not run the caller's program again."""
    buffer = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(buffer, "PNG")
    (tmp_path / "red.png").write_bytes(buffer.getvalue())
    (tmp_path / "PIL.py").write_text("raise SystemExit('a file of the working directory was imported')")
    done = run_python(
        "import sys; sys.path.remove('')\n"
        "import fastinfer\n"
        "print('once')\n"
        "with fastinfer.classifier(decode_in='processes', decode_workers=1) as classifier:\n"
        "    print(classifier.classify('red.png').ok)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\nTrue\n", "")
