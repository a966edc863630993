"""The end of the interpreter, forks and Ctrl-C: clean, quiet, and never a hang."""

from __future__ import annotations

import os

import pytest

from forks import fork_script, forks

LOAD = """
import fastinfer, itertools, os, sys
SIZES = {"n_ctx": 2048, "n_batch": 512, "n_ubatch": 512, "n_threads": 1}
LONG = {"max_tokens": 0, "ignore_eos": True}
llm = fastinfer.llm(model=sys.argv[1], **SIZES)
"""

ENDINGS = {
    "unclosed": "llm.chat('hello', max_tokens=3)",
    "unclosed and unused": "",
    "abandoned stream": "stream = llm.stream('hello', **LONG); next(stream)",
    "abandoned chat_many": "replies = llm.chat_many(itertools.repeat('hello'), max_tokens=9); next(replies)",
    "abandoned asynchronous stream": """
import asyncio
async def main():
    async for piece in llm.astream('hello', **LONG):
        break
asyncio.run(main())""",
    "abandoned asynchronous chat_many": """
import asyncio
async def main():
    async for reply in llm.achat_many(itertools.repeat('hello'), max_tokens=3):
        break
asyncio.run(main())""",
    "cancelled main task": """
import asyncio
async def main():
    tasks = [asyncio.create_task(llm.achat('hello', **LONG)) for _ in range(30)]
    await asyncio.sleep(0.01)
asyncio.run(main())""",
    "in a reference cycle": "llm.me = llm; llm.chat('hello', max_tokens=3)",
    "threads at work": """
import threading
def work():
    try:
        while True:
            llm.chat('hello', max_tokens=20)
    except fastinfer.errors.EngineDeadError:
        pass
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
llm.chat('hello', max_tokens=20)""",
    "exit in a stream": """
for piece in llm.stream('hello', **LONG):
    sys.exit(0)""",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_the_interpreter_ends_cleanly_and_quietly(run_python, babbler, ending):
    done = run_python(LOAD + ending, str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PARENT = "assert llm.chat('hello', max_tokens=3).error is None; llm.close()"


@forks
def test_a_forked_child_is_told_to_load_its_own(run_python, babbler):
    before = "stream, replies = llm.stream('hello', **LONG), llm.chat_many(itertools.repeat('hello'), max_tokens=99)\n"
    before += "next(stream), next(replies)"
    uses = [
        "llm.chat('hello')",
        "llm.stream('hello')",
        "list(llm.chat_many(['hello'] * 3))",
        "asyncio.run(llm.achat('hello'))",
        "llm.achat_many(['hello'])",
        "llm.astream('hello')",
        "llm.count_tokens('hello')",
        "list(stream)",  # the parent's
        "list(replies)",
    ]
    done = run_python(LOAD + fork_script(*uses, before=before, after="", parent=PARENT), str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@forks
def test_closing_in_a_forked_child_leaves_the_parents_engine_alone(run_python, babbler):
    after = "repr(llm); llm.slots(); llm.metrics(); llm.close()"
    code = fork_script("llm.chat('hello')", before="", after=after, parent=PARENT)
    done = run_python(LOAD + code, str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@forks
def test_a_fork_while_replies_are_generated_does_not_hang(run_python, babbler):
    before = """
import contextlib, threading
def work():
    with contextlib.suppress(fastinfer.errors.EngineDeadError):
        list(llm.chat_many(["hello"] * 200, max_tokens=20))
threading.Thread(target=work).start()
"""
    code = fork_script("llm.chat('hello')", before=before, after="", parent=PARENT)
    done = run_python(LOAD + code, str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


INTERRUPT = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started this may have had it ignored
def press():
    while not any(slot["is_processing"] for slot in llm.slots()):
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
presses = threading.Thread(target=press)
presses.start()
try:
    {use}
except KeyboardInterrupt:
    pass
else:
    sys.exit("not interrupted")
presses.join()
end = time.monotonic() + 0.5
while any(slot["is_processing"] for slot in llm.slots()):
    assert time.monotonic() < end, "the request runs on"
    time.sleep(0.005)
{after}
assert llm.chat("hello", max_tokens=3).usage.completion_tokens > 0
llm.close()
"""
INTERRUPTED = {
    "chat": ("llm.chat('hello', **LONG)", ""),
    "chat with a timeout": ("llm.chat('hello', timeout=60, **LONG)", ""),
    "stream": ("stream = llm.stream('hello', **LONG)\n    for _ in stream: pass", "del stream"),
    "chat_many": ("list(llm.chat_many(itertools.repeat('hello'), max_tokens=400, ignore_eos=True))", ""),
    "achat": ("import asyncio; asyncio.run(llm.achat('hello', **LONG))", ""),
}


@pytest.mark.skipif(os.name == "nt", reason="a process cannot press Ctrl-C for itself there")
@pytest.mark.parametrize(("use", "after"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_ctrl_c_cancels_the_request_and_leaves_the_model_usable(run_python, babbler, use, after):
    # A longer context, so that it is still at work when the key is pressed.
    code = LOAD.replace('"n_ctx": 2048', '"n_ctx": 4096') + INTERRUPT.format(use=use, after=after)
    done = run_python(code, str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_spawned_process_sends_its_replies_back(run_python, babbler, tmp_path):
    (tmp_path / "job.py").write_text(
        "import fastinfer\n"
        "def work(model):\n"
        "    with fastinfer.llm(model=model, n_ctx=512, n_batch=512, n_ubatch=512) as llm:\n"
        "        return llm.chat('hello', seed=1, logprobs=1), list(llm.stream('hello', seed=1))\n"
    )
    code = """
import sys
sys.path.insert(0, ".")
import job, multiprocessing
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
    reply, pieces = pool.submit(job.work, sys.argv[1]).result()
assert "".join(pieces) == reply.text and pieces[0].kind == "text" and reply.seed == 1
"""
    done = run_python(code, str(babbler))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
