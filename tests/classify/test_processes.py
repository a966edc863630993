"""The end of the interpreter and forks: clean, quiet, and never a hang."""

from __future__ import annotations

import pytest

from forks import fork_script, forks

LOAD = """
import fastinfer, itertools, os, sys
from PIL import Image
image = Image.new("RGB", (50, 50), "red")
"""

ENDINGS = {
    "unclosed": "classifier = fastinfer.classifier(); classifier.classify(image)",
    "unclosed and unused": "classifier = fastinfer.classifier()",
    "abandoned stream": """
classifier = fastinfer.classifier()
results = classifier.classify_many(itertools.repeat(image))
next(results)""",
    "abandoned asynchronous stream": """
import asyncio
classifier = fastinfer.classifier()
async def main():
    async for result in classifier.aclassify_many(itertools.repeat(image)):
        break
asyncio.run(main())""",
    "cancelled main task": """
import asyncio
classifier = fastinfer.classifier()
async def main():
    tasks = [asyncio.create_task(classifier.aclassify(image)) for _ in range(30)]
    await asyncio.sleep(0.01)
asyncio.run(main())""",
    "in a reference cycle": """
classifier = fastinfer.classifier()
classifier.me = classifier
classifier.classify(image)""",
    "threads at work": """
import threading
classifier = fastinfer.classifier()
def work():
    try:
        while True:
            classifier.classify(image)
    except fastinfer.errors.EngineDeadError:
        pass
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
classifier.classify(image)""",
    "exit in a stream": """
classifier = fastinfer.classifier()
for result in classifier.classify_many(itertools.repeat(image)):
    sys.exit(0)""",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_interpreter_ends_cleanly_and_quietly(run_python, ending):
    done = run_python(LOAD + ending)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


BEFORE = """
classifier = fastinfer.classifier(labels=["a", "b"], workers=1, n_threads=1)
list(classifier.classify_many([image] * 30))"""
STREAMS = """
results = classifier.classify_many(itertools.repeat(image))
grouped = classifier.classify_many(itertools.repeat(image), reproducible=True)
next(results), next(grouped)"""
PARENT = "assert classifier.classify(image).ok; classifier.close()"


@forks
def test_a_forked_child_is_told_to_load_its_own(run_python):
    uses = [
        "classifier.classify(image)",
        "classifier.classify(image, labels=['c', 'd'])",
        "list(classifier.classify_many([image] * 3))",
        "asyncio.run(classifier.aclassify(image))",
        "classifier.aclassify_many([image])",
        "classifier.labels = ['c', 'd']",
        "classifier.labels = None",
        "classifier.calibrate([(image, 'a')] * 9)",
        "asyncio.run(classifier.acalibrate([(image, 'a')] * 9))",
        "list(results)",  # the parent's
        "list(grouped)",
    ]
    before = BEFORE + STREAMS
    done = run_python(LOAD + fork_script(*uses, before=before, after="", parent=PARENT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@forks
def test_closing_in_a_forked_child_leaves_the_parents_engine_alone(run_python):
    code = fork_script("classifier.classify(image)", before=BEFORE, after="classifier.close()", parent=PARENT)
    done = run_python(LOAD + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@forks
def test_a_fork_while_images_are_classified_does_not_hang(run_python):
    busy = """
import contextlib, threading
def work():
    with contextlib.suppress(fastinfer.errors.EngineDeadError):
        list(classifier.classify_many([image] * 300))
threading.Thread(target=work).start()"""
    code = fork_script("classifier.classify(image)", before=BEFORE + busy, after="", parent=PARENT)
    done = run_python(LOAD + code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_spawned_process_pool_works(run_python, tmp_path):
    (tmp_path / "job.py").write_text(
        "import fastinfer\n"
        "from PIL import Image\n"
        "def work(colour):\n"
        "    with fastinfer.classifier(labels=['red', 'blue'], workers=1) as classifier:\n"
        "        return classifier.classify(Image.new('RGB', (50, 50), colour))\n"
    )
    code = """
import sys
sys.path.insert(0, ".")
import job, multiprocessing
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
    result = pool.submit(job.work, "red").result()
assert set(result.probabilities) == {"red", "blue"} and result.provenance.model == "embedded"
"""
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
