"""A chat model small enough for a token in a millisecond, and what tests run it with."""

from __future__ import annotations

import threading

import numpy as np

import tiny_models as tiny
from beside import PATIENCE, eventually
from fastinfer.engines.chat import Generation, Sampling
from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.chat import LlamaChatConfig, LlamaChatEngine
from fastinfer.engines.llama.chat import engine as engine_module
from fastinfer.errors import EngineDeadError

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
END = SPECIAL.index("<|im_end|>")
TRAINED = 4096
GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)
PLAIN = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.02, repeat_penalty=1.1, repeat_last_n=64)


def write_chat_model(path, *, layers=2):
    """A Qwen2 with random weights and byte-level BPE; all weights f32, so that batches hardly matter."""
    pieces, kinds, merges = tiny._bpe_vocabulary(SPECIAL)
    writer = tiny.Writer(path, "qwen2")
    writer.add_name("tiny chat")
    writer.add_context_length(TRAINED)
    writer.add_embedding_length(tiny.WIDTH)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(tiny.HIDDEN)
    writer.add_head_count(tiny.HEADS)
    writer.add_head_count_kv(tiny.KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_merges(merges)
    writer.add_token_list(pieces)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(END)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    random = np.random.default_rng(5)

    def draw(name, *shape, gain=1.0, base=0.0):
        scale = 0.1 if len(shape) == 1 else 1.0 / np.sqrt(np.prod(shape[1:]))
        writer.add_tensor(name, (base + gain * scale * random.standard_normal(shape)).astype(np.float32))

    width, heads = tiny.WIDTH, tiny.HEADS * tiny.HEAD
    draw("token_embd.weight", len(pieces), width, gain=np.sqrt(width))
    draw("output_norm.weight", width, base=1.0)
    output = random.standard_normal((len(pieces), width)) * (2.5 / np.sqrt(width))
    output[: len(SPECIAL)] *= 0.2
    output[END] *= 5
    writer.add_tensor("output.weight", output.astype(np.float32))
    for i in range(layers):
        layer = f"blk.{i}."
        draw(layer + "attn_norm.weight", width, base=1.0)
        draw(layer + "attn_q.weight", heads, width, gain=2.0)
        draw(layer + "attn_q.bias", heads)
        for name in ("attn_k", "attn_v"):
            draw(f"{layer}{name}.weight", tiny.KV_HEADS * tiny.HEAD, width, gain=2.0)
            draw(f"{layer}{name}.bias", tiny.KV_HEADS * tiny.HEAD)
        draw(layer + "attn_output.weight", width, heads, gain=3.0)
        draw(layer + "ffn_norm.weight", width, base=1.0)
        draw(layer + "ffn_gate.weight", tiny.HIDDEN, width)
        draw(layer + "ffn_up.weight", tiny.HIDDEN, width)
        draw(layer + "ffn_down.weight", width, tiny.HIDDEN)
    tiny._finish(writer)
    return path


def config_for(model, **changes):
    """An engine whose replies do not depend on what shares a batch."""
    values = {
        "model": model,
        "projector": None,
        "n_ctx": 2048,
        "n_batch": 512,
        "n_ubatch": 256,
        "n_threads": 1,
        "n_gpu_layers": 0,
        "device": "CPU",
        "flash_attn": False,
        "type_k": "f32",
        "type_v": "f32",
        "parallel": 4,
        "kv_unified": True,
        "cache_reuse": 0,
        "prefill_budget": 0,
        "prefill_delay": 0,
        "max_queue": 1000,
        "device_cut": 0,
        "sampling_threads": 0,
        "calibrate": False,
    }
    return LlamaChatConfig(**(values | changes))


class Reply:
    """A sink that keeps all it gets, and knows what must not come."""

    whole = False

    def __init__(self, on_put=None):
        self.text, self.logprobs, self.deltas = "", [], 0
        self.outcome = self.error = None
        self.after_end = False
        self._on_put = on_put
        self.begun, self.over = threading.Event(), threading.Event()

    def put(self, delta):
        self.after_end |= self.over.is_set()
        self.text += delta.text
        self.logprobs += delta.logprobs
        self.deltas += 1
        self.begun.set()
        if self._on_put is not None:
            self._on_put(self)

    def finish(self, outcome):
        self.after_end |= self.over.is_set()
        self.outcome = outcome
        self.over.set()

    def fail(self, error):
        self.after_end |= self.over.is_set()
        self.error = error
        self.over.set()

    def wait(self):
        """The outcome; raises the error that came in its place."""
        assert self.over.wait(PATIENCE), "nothing became of a request"
        assert not self.after_end
        if self.error is not None:
            raise self.error
        return self.outcome

    @property
    def state(self):
        """What can be compared between two runs."""
        outcome = self.outcome
        return self.text, outcome.finish_reason, outcome.stop, outcome.prompt_tokens, outcome.completion_tokens


def tokens_of(engine, text, special=True):
    with engine.vocabulary() as vocabulary:
        return np.array(vocabulary.tokenize(text, special=special), np.int32)


def some_tokens(count, seed=0):
    """A prompt of plain tokens."""
    return np.random.default_rng((seed, 77)).integers(len(SPECIAL), 261, count).astype(np.int32)


def request_for(tokens, *, sampling=GREEDY, max_tokens=16, **options):
    return Generation(tokens=np.asarray(tokens, np.int32), sampling=sampling, max_tokens=max_tokens, **options)


def send(engine, generation, **options):
    """Submit; the reply that fills up."""
    reply = Reply()
    reply.ticket = engine.submit(generation, reply, **options)
    return reply


def ask(engine, generation):
    """Submit and wait."""
    reply = send(engine, generation)
    reply.wait()
    return reply


def alone(engine, generations):
    """States of replies that were computed one after another, none continuing another's cache."""
    states = []
    for generation in generations:
        states.append(ask(engine, generation).state)
    return states


def wait_for_a_place(engine):
    """Submit in a thread that waits in front of a full queue; the thread, and what refuses the request in the end."""
    caught = []

    def wait():
        try:
            send(engine, request_for(some_tokens(5)), wait=True)
        except EngineDeadError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: engine._core._waiters)
    return thread, caught


class Stepped:
    """An engine whose steps are made by the test, one at a time, in the test's own thread."""

    def __init__(self, config):
        core = engine_module._Core
        self._run = core._run
        core._run = lambda self: None
        try:
            self.engine = LlamaChatEngine(config)
        finally:
            core._run = self._run
        self.core = self.engine._core
        self.loop, self.memory, self.context = self.core._loop, self.core._loop._memory, self.core._context
        self.steps = 0

    def send(self, generation):
        return send(self.engine, generation)

    def step(self, count=1):
        for _ in range(count):
            if self.core._inbox or not self.loop.is_idle:
                assert self.core._receive()
                self.loop.step()
                self.steps += 1

    def run(self, until=None, most=5000):
        """Step until something holds, or nothing is left to do."""
        for _ in range(most):
            if until() if until is not None else not self.core._inbox and self.loop.is_idle:
                return
            self.step()
        raise AssertionError(f"not there after {most} steps")

    def close(self):
        self.core._life.closed = True
        self._run(self.core)
        self.core._life.closed = False
        self.engine.close()


def held_by_sequence(loop):
    """Tokens that the engine believes each sequence to hold."""
    memory = loop._memory
    if memory.dense:
        held = {slot: len(tokens) for slot, tokens in enumerate(memory._kept)}
    else:
        held = {entry.sequence: len(entry.tokens) for entry in memory._kept}
    return held | {request.sequence: request.done for request in loop.running}


def is_accounted_for(loop):
    """llama.cpp holds of every sequence what the engine believes it does, and no cell is lost or counted twice."""
    held, memory, context = held_by_sequence(loop), loop._memory, loop._context
    if any(context.last_position(s) + 1 != held.get(s, 0) for s in range(llama.llama_n_seq_max(context.handle))):
        return False
    if memory.dense:
        return True
    cells = [entry.cells for entry in memory._kept] + [r.cells[: r.done] for r in loop.running]
    taken = len(np.unique(np.concatenate(cells))) if cells else 0
    return memory.free + taken == memory._size


class Faults:
    """Stands in front of llama_decode and returns codes of the test's choosing.

    ``choose(call, batch)`` gives a code to return in place of the call, ``"after"`` and a code to return after it, an
    exception to raise, or None to let it through.
    """

    def __init__(self, monkeypatch, choose):
        self.calls = self.faults = 0
        self._real, self._choose = llama.llama_decode, choose
        monkeypatch.setattr(llama, "llama_decode", self)

    def __call__(self, context, batch):
        self.calls += 1
        fault = self._choose(self.calls, batch)
        if fault is None:
            return self._real(context, batch)
        self.faults += 1
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(fault, tuple):
            assert self._real(context, batch) == 0
            llama.llama_synchronize(context)
            return fault[1]
        return fault
