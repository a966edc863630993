"""Several GPUs behind one classifier: a replica on each, or one model split over them.

Run with ``pytest -m gpu`` on a machine with two NVIDIA GPUs and the extra ``turbomind``.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

import fastinfer
from fastinfer.engines.turbomind.gpus import gpus
from fastinfer.errors import EngineDeadError, EngineUnavailableError
from gpu_memory import gpu_memory_used
from turned_samples import turned_samples

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["3", "7", "a blue square", "a car", "a fish", "a key", "a mushroom", "a red circle", "a tree", "an umbrella"]
#: In float16, which rounds eight times finer than bfloat16.
OPTIONS = {"cache_max_entry_count": 0.02, "max_batch_size": 16, "prompt": "What is this?", "dtype": "float16"}
ROUNDING = 0.02


@pytest.fixture(scope="module", autouse=True)
def two_gpus():
    try:
        count = len(gpus())
    except EngineUnavailableError as error:
        pytest.skip(str(error))
    if count < 2:
        pytest.skip("there is one GPU")


@pytest.fixture(scope="module")
def checkpoint():
    return ROOT / "training/embedded"


@pytest.fixture(scope="module")
def pictures():
    """96 different ones."""
    return turned_samples(range(-14, 18, 4))[:96]


def opened(checkpoint, **changes):
    return fastinfer.classifier("prod-exact", labels=LABELS, model=checkpoint, **{**OPTIONS, **changes})


def rows(results):
    return np.array([[result.probabilities[label] for label in LABELS] for result in results])


@pytest.fixture(scope="module")
def expected(checkpoint, pictures):
    with opened(checkpoint) as one:
        return rows(one.classify_many(pictures))


def memory_used():
    return [gpu_memory_used(gpu) for gpu in (0, 1)]


def test_replicas_answer_as_one_gpu_does_and_both_work(checkpoint, pictures, expected):
    before = memory_used()
    with opened(checkpoint, devices=[0, 1]) as both:
        assert both.provenance.device == "cuda:0, cuda:1"
        given = [0, 0]
        for index, replica in enumerate(both._engine._replicas):
            replica.submit = counting(replica.submit, given, index)
        got = rows(both.classify_many(pictures))
        during = memory_used()
    gc.collect()
    assert np.abs(got - expected).max() <= ROUNDING
    assert min(given) >= len(pictures) // 4, given
    # 2 % of 139 GB is the cache alone; what stays is TurboMind's own, and CUDA's context.
    assert all(now - then > 2000 for now, then in zip(during, before, strict=True))
    assert all(now - then < 1500 for now, then in zip(memory_used(), before, strict=True))


def counting(submit, given, index):
    def counted(image, task):
        given[index] += 1
        return submit(image, task)

    return counted


def test_a_dead_replica_fails_what_it_had_and_the_other_goes_on(checkpoint, pictures, expected):
    with opened(checkpoint, devices=[0, 1]) as both:
        first = both._engine._replicas[0]._core

        def broken(rows, wanted):
            raise RuntimeError("the GPU has fallen off the bus")

        list(both.classify_many(pictures[:8]))
        first._rows.score = broken
        results = list(both.classify_many(pictures, errors="return"))
        lost = [result for result in results if not result.ok]
        assert all(isinstance(result.error, EngineDeadError) for result in lost)
        assert 1 <= len(lost) <= 64
        for result, row in zip(results, expected, strict=True):
            assert not result.ok or np.abs(rows([result])[0] - row).max() <= ROUNDING
        assert np.abs(rows(both.classify_many(pictures)) - expected).max() <= ROUNDING


def test_a_model_split_over_two_gpus_answers_as_one_gpu_does(checkpoint, pictures, expected):
    with opened(checkpoint, tp=2) as split:
        assert split.provenance.device == "cuda:0, cuda:1"
        got = rows(split.classify_many(pictures))
        single = rows([split.classify(picture) for picture in pictures[:4]])
    assert np.abs(got - expected).max() <= ROUNDING
    assert np.abs(single - expected[:4]).max() <= ROUNDING
