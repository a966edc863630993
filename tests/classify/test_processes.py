"""The end of the interpreter and forks: clean, quiet, and never a hang."""

from __future__ import annotations

import os

import pytest

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


FORK = """
import faulthandler, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
classifier = fastinfer.classifier(labels=["a", "b"])
list(classifier.classify_many([image] * 30))
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(20, exit=True)
    code = 3
    try:
        {use}
    except fastinfer.errors.EngineDeadError as error:
        code = 0 if "fork" in str(error) and error.hint else 4
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        code = 5
    {after}
    os._exit(code)
_, status = os.waitpid(child, 0)
assert classifier.classify(image).ok  # the parent goes on
classifier.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    "use",
    [
        "classifier.classify(image)",
        "classifier.classify(image, labels=['c', 'd'])",
        "list(classifier.classify_many([image] * 3))",
        "import asyncio; asyncio.run(classifier.aclassify(image))",
        "classifier.labels = ['c', 'd']",
    ],
)
def test_a_forked_child_is_told_to_load_its_own(run_python, use):
    done = run_python(LOAD + FORK.format(use=use, after=""))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_closing_in_a_forked_child_leaves_the_parents_engine_alone(run_python):
    done = run_python(LOAD + FORK.format(use="classifier.classify(image)", after="classifier.close()"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_images_are_classified_does_not_hang(run_python):
    busy = """
import contextlib, threading
def work():
    with contextlib.suppress(fastinfer.errors.EngineDeadError):
        list(classifier.classify_many([image] * 300))
threading.Thread(target=work).start()
child = os.fork()"""
    code = FORK.format(use="classifier.classify(image)", after="").replace("\nchild = os.fork()", busy)
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
