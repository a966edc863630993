"""TurboMind in a process of its own on a real GPU: whatever ends it, nothing is lost and the memory comes back.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastinfer
from fastinfer.errors import EngineDeadError
from gpu_memory import gpu_memory_used
from turned_samples import turned_samples

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["3", "7", "a car", "a fish", "a key", "a mushroom", "a tree", "an umbrella", "a red circle", "a blue square"]
SMALL = {"cache_max_entry_count": 0.02, "dtype": "float16", "prompt": "What is this?"}
SIGNALS = [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV]
#: How far a probability may be off where an image shared its pass with others.
CLOSE = 0.02


def open_classifier(**options):
    return fastinfer.classifier("prod", labels=LABELS, model=ROOT / "training/embedded", **SMALL, **options)


@pytest.fixture(scope="module")
def images():
    return turned_samples(range(-12, 12))


@pytest.fixture(scope="module")
def expected(images):
    with open_classifier(isolate=False) as classifier:
        return list(classifier.classify_many(images))


@pytest.fixture(scope="module")
def classifier(expected):
    with open_classifier(isolate=True) as opened:
        yield opened


def alike(results, expected):
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        assert result.error is None
        for label, probability in result.probabilities.items():
            assert abs(probability - other.probabilities[label]) < CLOSE


def memory_below(limit, seconds=30.0):
    end = time.monotonic() + seconds
    while gpu_memory_used() > limit and time.monotonic() < end:
        time.sleep(0.1)
    return gpu_memory_used() <= limit


def test_it_answers_as_an_engine_in_this_process(classifier, images, expected):
    assert classifier.provenance.kernel_path.endswith("in a process of its own")
    alike(list(classifier.classify_many(images)), expected)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_nothing_is_lost_where_the_process_dies_in_the_middle(classifier, images, expected, number):
    first = classifier._engine.pid
    results = classifier.classify_many(images * 3)
    started = [next(results) for _ in range(20)]
    os.kill(first, number)
    alike([*started, *results], expected * 3)
    assert classifier._engine.pid != first


def test_a_process_that_stands_still_is_ended_and_replaced(images, expected):
    with open_classifier(isolate=True, step_timeout=6.0) as classifier:
        first = classifier._engine.pid
        results = classifier.classify_many(images)
        started = [next(results) for _ in range(5)]
        os.kill(first, signal.SIGSTOP)
        alike([*started, *results], expected)
        assert classifier._engine.pid != first


def test_errors_cross_over_and_siblings_are_untouched(classifier, images, expected, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    results = list(classifier.classify_many([images[0], broken, images[1]], errors="return"))
    assert type(results[1].error).__name__ == "ImageDecodeError"
    alike([results[0], results[2]], expected[:2])
    alike([classifier.classify(images[0])], expected[:1])


def test_the_memory_comes_back_with_close_and_with_the_death_of_the_parent(images):
    before = gpu_memory_used()
    opened = open_classifier(isolate=True)
    opened.classify(images[0])
    assert gpu_memory_used() > before + 200
    opened.close()
    assert memory_below(before + 4), "the whole of it, as the process is gone"
    with pytest.raises(EngineDeadError):
        opened.classify(images[0])
    program = (
        "import os, signal, sys, fastinfer\n"
        f"fastinfer.classifier('prod', labels={LABELS!r}, model=sys.argv[1], isolate=True, **{SMALL!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT / "training/embedded")], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert memory_below(before + 4)


def test_this_process_loads_neither_torch_nor_a_cuda_context():
    program = (
        "import sys, fastinfer\n"
        f"with fastinfer.classifier('prod', labels={LABELS!r}, model=sys.argv[1], isolate=True, **{SMALL!r}) as c:\n"
        "    c.classify(sys.argv[2])\n"
        "print(sorted({'torch', 'lmdeploy', 'llama_cpp'} & set(sys.modules)))\n"
    )
    picture = str(ROOT / "src/fastinfer/samples/red-circle.png")
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT / "training/embedded"), picture],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
