"""The engine over LMDeploy's pipeline, on a real GPU: it agrees with the fast one, and fails as it does.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import fastinfer
from fastinfer.classify.labels import check_labels
from fastinfer.engines.base import Task
from fastinfer.engines.scoring import normalise
from fastinfer.engines.turbomind.pipeline import PIPELINE_PATH, open_pipeline
from fastinfer.engines.turbomind.pipeline_model import ImageLimits
from fastinfer.engines.turbomind.settings import effective_settings
from fastinfer.errors import EngineDeadError, LabelError, PromptTooLongError
from fastinfer.models import describe_checkpoint
from gpu_memory import gpu_memory_used
from turned_samples import turned_samples

# LMDeploy's modules warn of their own and of others' deprecations while they are imported.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).resolve().parents[3]
PROMPT = "What is this?"
#: Words that are one token in most vocabularies; those that are not are left out.
CANDIDATES = [*"0123456789abcdefghijklmnopqrstuvwxyz", "car", "fish", "key", "tree", "heart", "star", "circle", "an"]
SMALL = {"cache_max_entry_count": 0.02, "max_batch_size": 16, "prompt": PROMPT, "open_prompt": PROMPT}
PATIENCE = 120


@pytest.fixture(scope="module")
def checkpoint():
    return ROOT / "training/embedded"


def opened(checkpoint, **changes):
    parameters = fastinfer.preset("prod-exact", kind="classify").replace(**{**SMALL, **changes}).parameters
    info = describe_checkpoint(checkpoint)
    settings, _ = effective_settings(parameters, info, devices=(0,))
    return open_pipeline(info, settings, ImageLimits(1, 0, 0), trust_remote_code=False)


@pytest.fixture(scope="module")
def engine(checkpoint):
    made = opened(checkpoint)
    yield made
    made.close()


@pytest.fixture(scope="module")
def labels(engine):
    found = []
    for word in CANDIDATES:
        try:
            engine.tokenize_label(word, PROMPT)
        except LabelError:
            continue
        found.append(word)
    assert len(found) >= 20
    return found


@pytest.fixture(scope="module")
def pictures():
    """The samples, turned, in the size that the encoder takes, so that both engines see the same pixels."""
    turned = turned_samples((0, -12, 9))
    return [np.array(picture.resize((112, 112), Image.Resampling.BICUBIC)) for picture in turned]


def task_for(engine, labels, prompt=PROMPT):
    trie = check_labels(labels).build_trie(lambda label: engine.tokenize_label(label, prompt))
    return Task(prompt, trie, 12)


def answers(engine, pictures, task):
    futures = [engine.submit(pixels, task) for pixels in pictures]
    return [future.result(PATIENCE) for future in futures]


def test_it_says_what_runs(engine):
    known = engine.description
    assert known.engine.startswith("TurboMind (lmdeploy 0.18")
    assert known.device == "cuda:0"
    assert known.image_size is None
    assert PIPELINE_PATH == "lmdeploy's pipeline, label rows from 16-bit scores"


def test_label_probabilities_are_those_of_the_fast_engine(engine, checkpoint, labels, pictures):
    with fastinfer.classifier("prod-exact", labels=labels, model=checkpoint, **SMALL) as fast:
        expected = list(fast.classify_many(pictures))
    got = answers(engine, pictures, task_for(engine, labels))
    worst = 0.0
    for scores, reference in zip(got, expected, strict=True):
        shares, mass = normalise(scores.labels)
        # Scores in bf16 have steps of 0.125 at 16 to 32: at worst 0.03 of a probability.
        worst = max(worst, *(abs(p - reference.probabilities[k]) for k, p in zip(labels, shares, strict=True)))
        assert mass == pytest.approx(reference.label_mass, abs=0.05)
        assert scores.prompt_tokens == reference.prompt_tokens
        assert scores.naming is None
    assert worst < 0.06


def test_names_are_those_of_the_fast_engine(engine, checkpoint, pictures):
    with fastinfer.classifier("prod-exact", model=checkpoint, **SMALL) as fast:
        expected = list(fast.classify_many(pictures))
    got = answers(engine, pictures, Task(PROMPT, None, 12))
    # Where two tokens are nearly as likely, either may come first in another batch.
    pairs = [(a.naming, b) for a, b in zip(got, expected, strict=True) if a.naming.text == b.label]
    assert len(pairs) >= 0.9 * len(pictures)
    for naming, reference in pairs:
        assert naming.probability == pytest.approx(reference.confidence, abs=0.1)
    assert any(naming.complete for naming, _ in pairs)
    assert all(scores.labels is None for scores in got)


def test_text_before_the_image_is_read_before_it(engine, labels, pictures):
    task = task_for(engine, labels)
    opened_with = Task(task.prompt, task.trie, task.max_tokens, opening="One of these: a car, a fish. ")
    after = Task(f"One of these: a car, a fish. {task.prompt}", task.trie, task.max_tokens)
    plain, before, behind = (answers(engine, pictures[:4], each) for each in (task, opened_with, after))
    for one, two, three in zip(plain, before, behind, strict=True):
        assert two.prompt_tokens > one.prompt_tokens
        assert not np.allclose(two.labels, three.labels, atol=0.2)


def test_a_name_is_cut_at_its_limit(engine, pictures):
    names = answers(engine, pictures[:12], Task(PROMPT, None, 12))
    firsts = answers(engine, pictures[:12], Task(PROMPT, None, 1))
    assert not all(cut.naming.complete for cut in firsts)
    for whole, cut in zip(names, firsts, strict=True):
        assert whole.naming.text.startswith(cut.naming.text)
        assert cut.naming.complete == (whole.naming.text == cut.naming.text)
        assert cut.naming.probability >= whole.naming.probability - 0.05


def test_one_image_gives_the_same_in_any_batch_and_among_other_tasks(engine, labels, pictures):
    task, other = task_for(engine, labels), Task(PROMPT, None, 4)
    alone = answers(engine, pictures[:1], task)[0]
    assert alone.batch == 1
    mixed = [engine.submit(pixels, task if i % 3 else other) for i, pixels in enumerate([*pictures, pictures[0]])]
    results = [future.result(PATIENCE) for future in mixed]
    assert max(scores.batch for scores in results) > 1
    again = answers(engine, [pictures[0], *pictures[1:8]], task)[0]
    assert np.abs(normalise(again.labels)[0] - normalise(alone.labels)[0]).max() < 0.06
    assert [scores.naming is None for scores in results] == [bool(i % 3) for i in range(len(results))]


def test_images_of_any_size_are_taken(engine, labels):
    task = task_for(engine, labels)
    random = np.random.default_rng(7)
    shapes = [(1, 1), (3, 700), (1500, 40), (600, 800)]
    images = [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    results = answers(engine, images, task)
    assert all(np.isfinite(scores.labels).all() for scores in results)
    assert len({scores.prompt_tokens for scores in results}) == 1  # one tile each


def test_labels_of_several_tokens_are_refused_with_what_to_do(engine):
    with pytest.raises(LabelError, match="a purple heart") as caught:
        engine.tokenize_label("a purple heart", PROMPT)
    assert "letters or digits" in caught.value.hint


@pytest.mark.parametrize("words", [600, 12_000], ids=["beyond the request limit", "beyond the engine's session"])
def test_a_prompt_that_is_too_long_fails_alone_and_names_tokens_and_limit(engine, labels, pictures, words):
    good, long = task_for(engine, labels), Task("word " * words, None, 12)
    futures = [engine.submit(pixels, task) for pixels in pictures[:6] for task in (good, long)]
    for future in futures[0::2]:
        assert future.result(PATIENCE).labels is not None
    for future in futures[1::2]:
        with pytest.raises(PromptTooLongError) as caught:
            future.result(PATIENCE)
        assert caught.value.limit == 512
        assert caught.value.tokens > words
        assert str(caught.value.tokens) in str(caught.value)


def test_what_is_cancelled_in_the_queue_is_not_computed(engine, labels, pictures):
    task = task_for(engine, labels)
    futures = [engine.submit(pictures[i % len(pictures)], task) for i in range(200)]
    cancelled = [future for future in futures[100:] if future.cancel()]
    assert cancelled
    done, waiting = wait(futures, PATIENCE)
    assert not waiting
    assert all(future.result().labels is not None for future in done if not future.cancelled())


def test_threads_share_it(engine, labels, pictures):
    task = task_for(engine, labels)
    expected = [normalise(scores.labels)[0] for scores in answers(engine, pictures, task)]
    results = [None] * len(pictures)

    def work(start):
        for i in range(start, len(pictures), 8):
            results[i] = normalise(engine.submit(pictures[i], task).result(PATIENCE).labels)[0]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE)
    for got, reference in zip(results, expected, strict=True):
        assert np.abs(got - reference).max() < 0.06


def test_the_process_is_left_as_it_was(engine):
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_processor_that_is_not_known_here_goes_through_the_pipeline(checkpoint, labels, pictures, tmp_path):
    """End to end: with another resize filter there is no preparation of our own. Images need no resize here."""
    folder = tmp_path / "other"
    shutil.copytree(checkpoint, folder)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "resample": 2}), "utf-8")
    with (
        fastinfer.classifier("prod-exact", labels=labels, model=folder, **SMALL) as slow,
        fastinfer.classifier("prod-exact", labels=labels, model=checkpoint, **SMALL) as fast,
    ):
        assert PIPELINE_PATH in slow.provenance.kernel_path
        assert PIPELINE_PATH not in fast.provenance.kernel_path
        for one, other in zip(slow.classify_many(pictures), fast.classify_many(pictures), strict=True):
            assert max(abs(one.probabilities[k] - other.probabilities[k]) for k in labels) < 0.06
        with pytest.raises(LabelError):
            slow.classify(pictures[0], labels=["a purple heart", "a car"])
        results = list(slow.classify_many([pictures[0], b"no image at all", pictures[1]], errors="return"))
        assert [result.error is None for result in results] == [True, False, True]


def test_closing_fails_what_waits_and_is_idempotent(checkpoint, labels, pictures):
    made = opened(checkpoint)
    task = task_for(made, labels)
    assert made.submit(pictures[0], task).result(PATIENCE).labels is not None
    futures = [made.submit(pictures[i % len(pictures)], task) for i in range(2000)]
    time.sleep(0.3)
    begun = time.monotonic()
    made.close()
    made.close()
    assert time.monotonic() - begun < 30
    done, waiting = wait(futures, 0)
    assert not waiting
    errors = [future.exception() for future in done if future.exception() is not None]
    assert errors
    assert all(isinstance(error, EngineDeadError) for error in errors)
    with pytest.raises(EngineDeadError):
        made.submit(pictures[0], task)
    with pytest.raises(EngineDeadError):
        made.tokenize_label("a", PROMPT)


def test_several_threads_may_close_it_and_one_that_is_dropped_closes_itself(checkpoint, labels, pictures):
    made = opened(checkpoint)
    task = task_for(made, labels)
    future = made.submit(pictures[0], task)
    closers = [threading.Thread(target=made.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(PATIENCE)
    assert not any(closer.is_alive() for closer in closers)
    assert future.done()
    dropped = opened(checkpoint)
    future = dropped.submit(pictures[0], task)
    del dropped
    gc.collect()
    assert future.exception(PATIENCE) is None or isinstance(future.exception(), EngineDeadError)


def test_closing_gives_the_memory_back(checkpoint, labels, pictures):
    used = []
    for _ in range(4):
        made = opened(checkpoint)
        answers(made, pictures[:16], task_for(made, labels))
        made.close()
        del made
        gc.collect()
        used.append(gpu_memory_used())
    # TurboMind 0.18 itself never frees 60 MiB of each engine that was made.
    assert max(after - before for before, after in pairwise(used)) < 100, used


def test_a_program_that_forgets_to_close_ends_well(checkpoint):
    program = (
        "import sys, pathlib, numpy as np, fastinfer\n"
        "from fastinfer.engines.base import Task\n"
        "from fastinfer.engines.turbomind.pipeline import open_pipeline\n"
        "from fastinfer.engines.turbomind.pipeline_model import ImageLimits\n"
        "from fastinfer.engines.turbomind.settings import effective_settings\n"
        "from fastinfer.models import describe_checkpoint\n"
        "info = describe_checkpoint(pathlib.Path(sys.argv[1]))\n"
        "preset = fastinfer.preset('prod-exact', kind='classify').replace(cache_max_entry_count=0.02)\n"
        "settings, _ = effective_settings(preset.parameters, info, devices=(0,))\n"
        "engine = open_pipeline(info, settings, ImageLimits(1, 0, 0), trust_remote_code=False)\n"
        "pixels = np.zeros((112, 112, 3), np.uint8)\n"
        "engine.submit(pixels, Task('What is this?', None, 12)).result(100)\n"
        "waiting = [engine.submit(pixels, Task('What is this?', None, 12)) for _ in range(500)]\n"
        "print('done')\n"
    )
    command = [sys.executable, "-c", program, str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout.splitlines()
