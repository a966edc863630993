"""The sampler chooses what llama.cpp's plain chain chooses, with and without the cut before it."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools

import numpy as np
import pytest

from chat_tools import END, SPECIAL, Reply, ask, config_for, request_for, send, some_tokens
from fastinfer.engines.chat import Sampling
from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.chat import LlamaChatEngine, cut_for
from fastinfer.engines.llama.chat.sampler import Candidates, TokenSampler
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.errors import SchemaError

LIMIT = 300
STEPS = 220
PROMPT = some_tokens(90, seed=3)


class Bench:
    """A model with one row of scores, which the test writes over."""

    def __init__(self, path):
        self.model = LlamaModel(path)
        shape = ContextShape(
            n_ctx=64, n_batch=16, n_ubatch=16, n_outputs=1, flash_attn=False, type_k="f32", type_v="f32", n_sequences=1
        )
        self.context = LlamaContext(self.model, shape, n_threads=1)
        rows = self.context.rows
        rows.tokens[0], rows.positions[0], rows.sequences[0], rows.wanted[0] = 9, 0, 0, 1
        assert self.context.decode(1) == 0
        self.context.wait()
        self.candidates = Candidates(self.model.vocabulary_size)
        self.random = np.random.default_rng(1)

    def draw(self, spread=3.0):
        """New scores in the row."""
        scores = self.random.normal(0, spread, self.model.vocabulary_size)
        # A few tokens come again and again, so that penalties have something to do.
        scores[5:25] += 2 * spread
        if self.random.random() < 0.3:
            scores[self.model.end_tokens] += 4 * spread
        self.context.scores(0)[:] = scores.astype(np.float32)

    def sampler(self, sampling, prompt=PROMPT, **options):
        options = {"limit": LIMIT, "grammar": None, "logprobs": None, "device_cut": 0} | options
        return TokenSampler(self.model, sampling, prompt, **options)

    def close(self):
        self.context.close()
        self.model.close()


@pytest.fixture(scope="module")
def bench(model_file):
    made = Bench(model_file)
    yield made
    made.close()


class Plain:
    """llama.cpp's samplers in llama-server's order, each over all that is left by the one before; no cut."""

    def __init__(self, bench, sampling, prompt=PROMPT, grammar=None, seed=None):
        self.bench, model = bench, bench.model
        self.chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        add = llama.llama_sampler_chain_add
        biases = [(int(t), -np.inf) for t in model.end_tokens] if sampling.ignore_end else []
        biases += sampling.logit_bias
        if biases:
            array = (llama.llama_logit_bias * len(biases))(*biases)
            add(self.chain, llama.llama_sampler_init_logit_bias(model.vocabulary_size, len(biases), array))
        last_n = LIMIT if sampling.repeat_last_n < 0 else sampling.repeat_last_n
        add(
            self.chain,
            llama.llama_sampler_init_penalties(
                model.vocabulary_size, last_n, sampling.repeat_penalty, sampling.frequency_penalty,
                sampling.presence_penalty,
            ),
        )  # fmt: skip
        add(self.chain, llama.llama_sampler_init_top_k(sampling.top_k))
        add(self.chain, llama.llama_sampler_init_top_p(sampling.top_p, 0))
        add(self.chain, llama.llama_sampler_init_min_p(sampling.min_p, 0))
        add(self.chain, llama.llama_sampler_init_temp(sampling.temperature))
        add(self.chain, llama.llama_sampler_init_dist(sampling.seed if seed is None else seed))
        for token in prompt:
            llama.llama_sampler_accept(self.chain, int(token))
        self.grammar = grammar and llama.llama_sampler_init_grammar(model.vocabulary_handle, grammar.encode(), b"root")
        self.rejected = 0

    def sample(self):
        return llama.llama_sampler_sample(self.chain, self.bench.context.handle, 0)

    def _array(self):
        scores = self.bench.context.scores(0)
        data = (llama.llama_token_data * len(scores))(*[(t, float(s), 0.0) for t, s in enumerate(scores)])
        return data, llama.llama_token_data_array(data, len(scores), -1, False)

    def sample_within(self):
        """As llama.cpp's common_sampler_sample."""
        data, array = self._array()
        llama.llama_sampler_apply(self.chain, ctypes.byref(array))
        token = array.data[array.selected].id
        one = (llama.llama_token_data * 1)((token, 1.0, 0.0))
        single = llama.llama_token_data_array(one, 1, -1, False)
        llama.llama_sampler_apply(self.grammar, ctypes.byref(single))
        if one[0].logit == -np.inf:
            self.rejected += 1
            data, array = self._array()
            llama.llama_sampler_apply(self.grammar, ctypes.byref(array))
            llama.llama_sampler_apply(self.chain, ctypes.byref(array))
            token = array.data[array.selected].id
        llama.llama_sampler_accept(self.grammar, token)
        llama.llama_sampler_accept(self.chain, token)
        del data
        return token

    def close(self):
        for sampler in (self.chain, self.grammar):
            if sampler:
                llama.llama_sampler_free(sampler)


def compare(bench, sampling, steps=STEPS, **options):
    ours, plain = bench.sampler(sampling, **options), Plain(bench, sampling)
    try:
        for _ in range(steps):
            bench.draw()
            yield ours.sample(bench.context, 0), plain.sample()
    finally:
        ours.close()
        plain.close()


BASE = Sampling(seed=11)
VARIED = [
    dataclasses.replace(BASE, temperature=temperature, top_k=top_k, repeat_last_n=last_n)
    for temperature, top_k, last_n in itertools.product((0.0, 0.6, 1.5), (0, 1, 40, 60), (-1, 0, 64))
] + [
    dataclasses.replace(BASE, **changes)
    for changes in (
        {"top_p": 0.3}, {"top_p": 1.0}, {"min_p": 0.0}, {"min_p": 0.4}, {"top_p": 1.0, "min_p": 0.0, "top_k": 5},
        {"repeat_penalty": 1.0}, {"repeat_penalty": 1.8}, {"repeat_penalty": 0.7}, {"repeat_penalty": 2.5, "top_k": 3},
        {"frequency_penalty": 0.7}, {"presence_penalty": 1.5}, {"frequency_penalty": -0.5}, {"presence_penalty": -1.0},
        {"frequency_penalty": 0.4, "presence_penalty": 0.4, "repeat_penalty": 1.3, "top_k": 2, "temperature": 1.5},
        {"logit_bias": ((7, -100.0), (9, -np.inf))}, {"logit_bias": ((200, 8.0),)},
        {"logit_bias": ((30, 3.0), (31, -3.0))},
        {"ignore_end": True, "top_k": 2}, {"ignore_end": True, "logit_bias": ((8, -50.0),), "top_k": 1},
        {"ignore_end": True, "top_k": 2, "repeat_last_n": 0}, {"ignore_end": True, "top_k": 1, "repeat_penalty": 1.0},
        {"logit_bias": tuple((t, -100.0) for t in range(5, 17)), "top_k": 6, "repeat_last_n": 0},
        {"seed": 0}, {"seed": 2**32 - 2}, {"top_k": 1000}, {"repeat_last_n": 5, "top_k": 4, "repeat_penalty": 3.0},
        {"temperature": 0.0, "repeat_penalty": 1.5, "repeat_last_n": 3},
    )
]  # fmt: skip


@pytest.mark.parametrize("sampling", VARIED, ids=str)
def test_each_token_is_the_one_of_the_plain_chain(bench, sampling):
    for ours, plain in compare(bench, sampling):
        assert ours == plain


@pytest.mark.parametrize("sampling", [s for s in VARIED if cut_for(s)], ids=str)
def test_what_the_cut_keeps_is_enough(bench, sampling):
    """With only as many likeliest candidates as ``cut_for`` says, the plain chain chooses the same."""
    cut = cut_for(sampling, always=len(bench.model.end_tokens) if sampling.ignore_end else 0)
    ours, plain = bench.sampler(sampling, device_cut=cut), Plain(bench, sampling)
    assert not ours.needs_scores
    for _ in range(STEPS):
        bench.draw()
        token = plain.sample()
        scores = bench.context.scores(0)
        scores[np.argsort(-scores, kind="stable")[cut:]] = -np.inf
        assert ours.sample(bench.context, 0) == token
    ours.close()
    plain.close()


SCORES_NEEDED = {
    "all candidates": ({"top_k": 0}, {}),
    "more candidates than are left": ({"top_k": 100, "repeat_last_n": 64}, {}),
    "a token that gains": ({"logit_bias": ((5, 0.1),)}, {}),
    "a penalty that raises": ({"repeat_penalty": 0.9}, {}),
    "a frequency that raises": ({"frequency_penalty": -0.1}, {}),
    "a presence that raises": ({"presence_penalty": -0.1}, {}),
    "penalties over the whole context": ({"repeat_last_n": -1}, {}),
    "a grammar": ({}, {"grammar": 'root ::= "a"'}),
    "log-probabilities": ({}, {"logprobs": 0}),
}


@pytest.mark.parametrize(("options", "more"), SCORES_NEEDED.values(), ids=SCORES_NEEDED)
def test_all_scores_are_read_where_the_devices_candidates_are_not_enough(bench, options, more):
    sampler = bench.sampler(dataclasses.replace(BASE, **options), device_cut=124, **more)
    assert sampler.needs_scores
    sampler.close()


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.0}, {"top_k": 1}, {"logit_bias": ((5, -3.0),), "top_k": 40}, {"repeat_last_n": 0},
     {"repeat_penalty": 1.0, "top_k": 124}, {"ignore_end": True, "top_k": 40}],
)  # fmt: skip
def test_the_devices_candidates_are_enough_for_the_rest(bench, options):
    sampler = bench.sampler(dataclasses.replace(BASE, **options), device_cut=124)
    assert not sampler.needs_scores
    sampler.close()


def test_penalties_see_the_prompt(bench):
    sampling = dataclasses.replace(BASE, temperature=0.0, presence_penalty=20.0)
    bench.draw()
    bench.context.scores(0)[50] = 30.0
    bench.context.scores(0)[51] = 29.0
    for prompt, expected in ((np.array([7, 8], np.int32), 50), (np.array([7, 50, 8], np.int32), 51)):
        sampler = bench.sampler(sampling, prompt=prompt)
        assert sampler.sample(bench.context, 0) == expected
        sampler.close()


def test_penalties_forget_what_is_further_back_than_asked(bench):
    bench.draw()
    bench.context.scores(0)[50] = 30.0
    bench.context.scores(0)[51] = 29.0
    prompt = np.array([50, *range(60, 70)], np.int32)
    for last_n, expected in ((10, 50), (11, 51), (-1, 51), (0, 50)):
        sampling = dataclasses.replace(BASE, temperature=0.0, presence_penalty=20.0, repeat_last_n=last_n)
        sampler = bench.sampler(sampling, prompt=prompt)
        assert sampler.sample(bench.context, 0) == expected, last_n
        sampler.close()


def test_a_seed_reproduces_and_another_does_not(bench):
    def tokens(seed):
        bench.random = np.random.default_rng(8)
        sampler = bench.sampler(dataclasses.replace(BASE, seed=seed, temperature=1.5))
        chosen = []
        for _ in range(40):
            bench.draw()
            chosen.append(sampler.sample(bench.context, 0))
        used = sampler.seed
        sampler.close()
        return chosen, used

    first, seed = tokens(None)
    assert tokens(seed) == (first, seed)
    assert tokens(seed ^ 1)[0] != first
    assert tokens(None)[0] != first


JSON = r"""root ::= object
object ::= "{" ws pair ("," ws pair)* "}"
pair ::= "\"" [a-z]+ "\":" ws value
value ::= "\"" [a-zA-Z ]* "\"" | [0-9]+ | object | "true"
ws ::= " "?
"""
LETTERS = 'root ::= [a-z]+ (" " [a-z]+)* "."'


@pytest.mark.parametrize("grammar", [JSON, LETTERS], ids=["json", "letters"])
@pytest.mark.parametrize("device_cut", [0, 124])
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.0}, {"temperature": 1.5, "top_k": 0}, {"top_k": 1}, {"repeat_penalty": 1.6, "top_k": 10}],
    ids=str,
)
def test_within_a_grammar_each_token_is_that_of_llama_cpps_own_loop(bench, grammar, device_cut, options):
    for seed in range(8):
        sampling = dataclasses.replace(BASE, seed=seed, **options)
        ours, plain = (
            bench.sampler(sampling, grammar=grammar, device_cut=device_cut),
            Plain(bench, sampling, grammar=grammar),
        )
        chosen = []
        while len(chosen) < 60 and (not chosen or chosen[-1] not in bench.model.end_tokens):
            bench.draw()
            chosen.append(ours.sample_within(bench.context, 0, bench.candidates, None))
            assert chosen[-1] == plain.sample_within()
        assert plain.rejected or len(chosen) == 1
        ours.close()
        plain.close()


def test_a_token_that_may_come_first_is_not_seen_by_the_grammar(bench):
    opening = SPECIAL.index("<think>")
    sampler = bench.sampler(dataclasses.replace(BASE, temperature=0.0), grammar='root ::= "a"')
    bench.draw()
    bench.context.scores(0)[opening] = 50.0
    assert sampler.sample_within(bench.context, 0, bench.candidates, opening) == opening
    token = sampler.sample_within(bench.context, 0, bench.candidates, None)
    assert bench.model.piece(token) == b"a"
    assert sampler.sample_within(bench.context, 0, bench.candidates, None) in bench.model.end_tokens
    sampler.close()


def test_where_the_options_forbid_all_that_the_grammar_allows_it_is_an_error_and_no_abort(bench):
    sampler = bench.sampler(dataclasses.replace(BASE, ignore_end=True), grammar='root ::= "a"')
    bench.draw()
    sampler.sample_within(bench.context, 0, bench.candidates, None)
    with pytest.raises(SchemaError):
        sampler.sample_within(bench.context, 0, bench.candidates, None)
    sampler.close()


@pytest.mark.parametrize("grammar", ["root ::= (", "nothing", 'other ::= "a"'])
def test_what_llama_cpp_cannot_parse_is_refused(bench, grammar):
    with pytest.raises(SchemaError):
        bench.sampler(BASE, grammar=grammar)


@pytest.mark.parametrize("count", [0, 1, 5, 100_000])
def test_log_probabilities_are_those_of_the_models_own_distribution(bench, count):
    sampler = bench.sampler(dataclasses.replace(BASE, top_k=3, temperature=0.1), logprobs=count)
    for _ in range(20):
        bench.draw()
        scores = bench.context.scores(0).astype(np.float64)
        expected = scores - np.log(np.exp(scores).sum())
        token = sampler.sample(bench.context, 0)
        found = sampler.logprob(bench.context, 0, token)
        assert found.logprob == pytest.approx(expected[token], abs=1e-9)
        assert found.bytes == bench.model.piece(token)
        values = [value for _, value in found.top]
        assert len(values) == min(count, len(scores))
        assert values == pytest.approx(np.sort(expected)[::-1][: len(values)], abs=1e-9)
        assert sum(np.exp(values)) <= 1 + 1e-9
    sampler.close()


def test_without_being_asked_for_there_are_no_log_probabilities(bench):
    sampler = bench.sampler(BASE)
    assert sampler.logprob(bench.context, 0, 7) is None
    sampler.close()


def test_closing_twice_is_fine(bench):
    sampler = bench.sampler(BASE, grammar='root ::= "a"')
    sampler.close()
    sampler.close()


@pytest.fixture(scope="module", params=[True, False], ids=["unified", "partitioned"])
def cutting(model_file, request):
    engine = LlamaChatEngine(config_for(model_file, device_cut=128, kv_unified=request.param))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.0}, {"temperature": 1.5, "top_k": 64}, {"top_k": 1}, {"top_k": 0}, {"repeat_last_n": -1},
     {"repeat_penalty": 1.5, "frequency_penalty": 0.5}, {"logit_bias": ((20, -5.0), (END, -9.0))}, {"top_p": 0.5},
     {"logit_bias": ((20, 5.0),)}, {"ignore_end": True, "top_k": 50}],
    ids=str,
)  # fmt: skip
def test_with_the_cut_on_the_device_the_reply_is_the_same(cutting, single, options):
    requests = [
        request_for(some_tokens(20, seed=s), sampling=dataclasses.replace(BASE, seed=s, **options), max_tokens=200)
        for s in range(4)
    ]
    replies = [send(cutting, request) for request in requests]
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state


def test_replies_that_read_all_scores_run_beside_those_that_do_not(cutting, single):
    every = [
        {"top_k": 0}, {}, {"repeat_penalty": 0.8}, {"temperature": 0.0}, {"top_k": 0, "temperature": 1.2}, {"top_k": 5},
    ]  # fmt: skip
    requests = [
        request_for(
            some_tokens(30, seed=s), sampling=dataclasses.replace(BASE, seed=s, **o), max_tokens=100, logprobs=n
        )
        for s, (o, n) in enumerate(itertools.product(every, (None, 2)))
    ]
    replies = [send(cutting, request) for request in requests]
    for reply, request in zip(replies, requests, strict=True):
        reply.wait()
        assert reply.state == ask(single, request).state


def test_the_sinks_of_a_reply_get_a_log_probability_for_each_token(cutting):
    reply = ask(cutting, request_for(some_tokens(12, seed=4), max_tokens=30, logprobs=3))
    assert len(reply.logprobs) == reply.outcome.completion_tokens
    assert isinstance(reply, Reply)
    for entry in reply.logprobs:
        assert entry.logprob <= 0
        assert len(entry.top) == 3
        assert entry.logprob <= entry.top[0][1] + 1e-9
