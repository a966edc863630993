"""Closing, collecting, forking: nobody is left waiting and the memory comes back."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path

import psutil
import pytest

import chat_tools
from chat_tools import (
    GREEDY,
    LlamaChatEngine,
    Reply,
    ask,
    config_for,
    eventually,
    request_for,
    send,
    some_tokens,
)
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.errors import EngineDeadError, EngineUnavailableError, ModelLoadError

ENDLESS = {"sampling": GREEDY.__class__(temperature=0.0, repeat_penalty=1.0, ignore_end=True), "max_tokens": None}


def endless(engine, count, seed=0):
    return [send(engine, request_for(some_tokens(6, seed=seed + i), **ENDLESS)) for i in range(count)]


def is_freed(core):
    return core._context.handle is None


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("cut", [0, 128])
def test_closing_fails_what_runs_and_what_waits(open_engine, unified, cut):
    engine = open_engine(parallel=2, n_ctx=8192, kv_unified=unified, device_cut=cut)
    replies = endless(engine, 5)
    assert replies[0].begun.wait(30)
    engine.close()
    for reply in replies:
        assert reply.over.is_set()
        with pytest.raises(EngineDeadError):
            reply.wait()
    assert is_freed(engine._core)
    assert not engine._core._thread.is_alive()


def test_closing_twice_and_using_afterwards(open_engine):
    engine = open_engine()
    reply = ask(engine, request_for(some_tokens(5)))
    engine.close()
    engine.close()
    reply.ticket.cancel()
    for call in (
        lambda: engine.submit(request_for(some_tokens(5)), Reply()),
        lambda: engine.submit(request_for(some_tokens(5)), Reply(), wait=True),
        lambda: engine.vocabulary().__enter__(),
        lambda: engine.show(["<think>"]),
    ):
        with pytest.raises(EngineDeadError, match="closed"):
            call()
    assert not any(slot["is_processing"] for slot in engine.slots())
    assert engine.metrics()["llamacpp:requests_processing"] == 0
    assert engine.profile()["steps"] > 0


def test_closing_from_several_threads(open_engine):
    for round_ in range(5):
        engine = open_engine(n_ctx=8192)
        replies = endless(engine, 6, seed=round_)
        threads = [threading.Thread(target=engine.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        for reply in replies:
            with pytest.raises(EngineDeadError):
                reply.wait()


def test_submitting_while_it_closes_either_works_or_is_refused(open_engine):
    engine = open_engine(max_queue=4)
    replies, refused = [], []

    def work(number):
        for i in range(500):
            try:
                replies.append(
                    send(engine, request_for(some_tokens(4, seed=number * 1000 + i), max_tokens=3), wait=True)
                )
            except EngineDeadError as error:
                refused.append(error)
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(replies) > 40)
    engine.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(refused) == 4
    for reply in replies:
        assert reply.over.wait(30)
        assert reply.error is None or isinstance(reply.error, EngineDeadError)


def test_closing_in_a_sink_is_closing(open_engine):
    engine = open_engine()
    reply = Reply(on_put=lambda r: engine.close())
    engine.submit(request_for(some_tokens(5), **ENDLESS), reply)
    with pytest.raises(EngineDeadError):
        reply.wait()
    eventually(lambda: is_freed(engine._core))


def test_an_engine_that_is_dropped_is_closed(model_file):
    engine = LlamaChatEngine(config_for(model_file, n_ctx=8192))
    core, gone = engine._core, weakref.ref(engine)
    replies = endless(engine, 6)
    assert replies[0].begun.wait(30)
    del engine
    gc.collect()
    assert gone() is None
    for reply in replies:
        with pytest.raises(EngineDeadError):
            reply.wait()
    eventually(lambda: is_freed(core))


def test_an_engine_can_be_collected_in_its_own_thread(model_file):
    box = [LlamaChatEngine(config_for(model_file))]
    core = box[0]._core
    where = []

    def drop(reply):
        if box:
            where.append(threading.current_thread())
            box.clear()
            gc.collect()

    reply = Reply(on_put=drop)
    box[0].submit(request_for(some_tokens(5), **ENDLESS), reply)
    with pytest.raises(EngineDeadError):
        reply.wait()
    assert where == [core._thread]
    core._thread.join(30)
    assert not core._thread.is_alive()
    assert is_freed(core)


def test_an_engine_in_a_cycle_is_collected(model_file):
    engine = LlamaChatEngine(config_for(model_file))
    core = engine._core
    engine.myself = engine
    del engine
    gc.collect()
    eventually(lambda: is_freed(core))


def test_the_vocabulary_stays_while_it_is_in_use(open_engine):
    engine = open_engine()
    inside, leave, seen = threading.Event(), threading.Event(), []

    def use():
        with engine.vocabulary() as vocabulary:
            inside.set()
            leave.wait(30)
            seen.extend(vocabulary.tokenize("a dog", special=False))

    user = threading.Thread(target=use)
    user.start()
    assert inside.wait(30)
    closer = threading.Thread(target=engine.close)
    closer.start()
    eventually(lambda: engine._core._life.closed)
    assert not is_freed(engine._core)
    with pytest.raises(EngineDeadError), engine.vocabulary():
        pass
    leave.set()
    user.join(30)
    closer.join(30)
    assert seen
    assert is_freed(engine._core)


def test_two_engines_run_at_once(open_engine, single):
    engines = [open_engine(parallel=2), open_engine(parallel=3, kv_unified=False)]
    requests = [request_for(some_tokens(10 + s, seed=s), max_tokens=40) for s in range(10)]
    replies = [send(engines[i % 2], request) for i, request in enumerate(requests)]
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state
    engines[0].close()
    assert ask(engines[1], requests[0]).state == ask(single, requests[0]).state


def test_the_memory_comes_back(model_file):
    process = psutil.Process()

    def load():
        for unified in (True, False):
            engine = LlamaChatEngine(
                config_for(model_file, n_ctx=16384, device_cut=128, kv_unified=unified, calibrate=True)
            )
            for reply in [send(engine, request_for(some_tokens(300, seed=s), max_tokens=5)) for s in range(6)]:
                reply.wait()
            engine.close()
            del engine, reply

    def used():
        gc.collect()
        return process.memory_info().rss

    for _ in range(3):
        load()
    before = used()
    for _ in range(10):
        load()
    # One context that is not freed would be 4 MB of cache and more of buffers, twenty times.
    assert used() - before < 30e6


def test_a_file_that_is_no_model_leaves_nothing_behind(tmp_path, model_file):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    for path in (bad, tmp_path / "missing.gguf"):
        with pytest.raises(ModelLoadError):
            LlamaChatEngine(config_for(path))
    with pytest.raises(EngineUnavailableError):
        LlamaChatEngine(config_for(model_file, device="CUDA7"))
    assert isinstance(LlamaModel(model_file), LlamaModel)


FORK = """
import os, sys, signal, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import chat_tools as tools
from fastinfer.errors import EngineDeadError
engine = tools.LlamaChatEngine(tools.config_for(Path(sys.argv[1])))
running = tools.send(engine, tools.request_for(tools.some_tokens(5), max_tokens=1500))
running.begun.wait(30)
child = os.fork()
if not child:
    signal.alarm(20)
    refused = 0
    for call in (
        lambda: engine.submit(tools.request_for(tools.some_tokens(5)), tools.Reply()),
        lambda: engine.submit(tools.request_for(tools.some_tokens(5)), tools.Reply(), wait=True),
        lambda: engine.vocabulary().__enter__(),
        engine.check_process,
        engine.profile,
    ):
        try:
            call()
        except EngineDeadError:
            refused += 1
    running.ticket.cancel()
    engine.slots(), engine.metrics()
    engine.close()
    del engine
    sys.exit(refused)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 5, status
running.wait()
print(tools.ask(engine, tools.request_for(tools.some_tokens(5), max_tokens=7)).outcome.completion_tokens)
"""


def test_a_forked_child_is_refused_and_ends(run_python, model_file):
    done = run_python(FORK, str(model_file), str(Path(chat_tools.__file__).parent))
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


EXIT = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import chat_tools as tools
engine = tools.LlamaChatEngine(tools.config_for(Path(sys.argv[1]), n_ctx=8192))
replies = [tools.send(engine, tools.request_for(tools.some_tokens(5, seed=i), max_tokens=None)) for i in range(9)]
replies[0].begun.wait(30)
print("leaving")
"""


def test_a_program_ends_while_replies_run(run_python, model_file):
    done = run_python(EXIT, str(model_file), str(Path(chat_tools.__file__).parent))
    assert (done.returncode, done.stdout, done.stderr) == (0, "leaving\n", "")
