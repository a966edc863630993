"""Images in prompts: the engine's replies against llama.cpp used in the plainest way, whatever runs beside them."""

from __future__ import annotations

import codecs
import gc
import threading
import weakref

import numpy as np
import pytest

import chat_tools as tools
import plain_mtmd as plain
import tiny_models as tiny
from fastinfer.engines.chat import PlacedImage, Sampling
from fastinfer.engines.llama.binding import mtmd
from fastinfer.errors import EngineDeadError, EngineError, ModelLoadError, PromptTooLongError, RequestCancelledError

draw, MARKER = plain.draw, plain.MARKER

NAMES = ["smolvlm", "internvl3", "qwen2vl", "gemma3"]
ENDS = {"smolvlm": ("<|im_start|>User: ", "<end_of_utterance>\nAssistant:"),
        "gemma3": ("<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n")}  # fmt: skip
CHATML = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
RED, BLUE, WIDE = draw(64, 64), draw(40, 100, 1), draw(120, 40, 2)
MOST = 10


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vision")
    return {n: tiny.write_model(folder / n, tiny.ARCHITECTURES[n]) for n in NAMES}


@pytest.fixture(scope="module")
def reference(files, name):
    """The plain way for one model, remembering what it has been asked."""
    model = plain.PlainMtmd(files[name])
    known = {}

    def reply(parts, max_tokens=MOST):
        key = tuple(p if isinstance(p, str) else (p.shape, p.tobytes()) for p in parts), max_tokens
        if key not in known:
            text = "".join(p if isinstance(p, str) else MARKER for p in parts)
            known[key] = model.reply(text, [p for p in parts if not isinstance(p, str)], max_tokens)
        return known[key]

    yield reply
    model.close()


def settings(path, **changes):
    projector = path.with_name(f"mmproj-{path.name}")
    return tools.config_for(path, **({"projector": projector, "n_ctx": 4096} | changes))


@pytest.fixture
def opened(files, name):
    """Make engines, or with ``stepped`` ones whose steps the test makes; closed after the test."""
    made = []

    def make(*, stepped=False, model=name, **changes):
        kind = tools.Stepped if stepped else tools.LlamaChatEngine
        made.append(kind(settings(files[model], **changes)))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def turn(name, *parts):
    """A user's turn and the beginning of the reply."""
    before, after = ENDS.get(name, CHATML)
    return [before, *parts, after]


def prompt_for(engine, parts, **options):
    """What is submitted for texts and images."""
    tokens, images = [], []
    with engine.vocabulary() as vocabulary:
        if vocabulary.adds_bos:
            tokens.append(vocabulary.bos_token)
        text = ""
        for part in [*parts, None]:
            if isinstance(part, str):
                text += part
                continue
            tokens += vocabulary.tokenize(text, special=True) if text else []
            text = ""
            if part is not None:
                images.append(PlacedImage(len(tokens), part))
    generation = tools.request_for(tokens, **({"max_tokens": MOST} | options))
    return engine.place(generation, images) if images else generation


def check(reply, expected):
    """A reply is the plain one, as far as that is clear."""
    said, cells, clear = expected
    assert reply.outcome.prompt_tokens == cells
    # Where it is not clear how it goes on, the last character may be cut within its bytes.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(said, final=clear)
    assert reply.text == text if clear else reply.text.startswith(text)


def is_accounted_for(loop):
    """No cell is lost, or counted twice; the last position says less where images take fewer positions than cells."""
    memory = loop._memory
    cells = [entry.cells for entry in memory._kept] + [r.cells[: r.done] for r in loop.running]
    return memory.free + (len(np.unique(np.concatenate(cells))) if cells else 0) == memory._size


def conversations(name):
    return {
        "one": turn(name, RED, "\nWhat is this?"),
        "first": [BLUE, *turn(name, "What is this?")],
        "last": turn(name, "What is this? ", WIDE),
        "very last": [*turn(name, "What is this?"), RED],
        "only": [RED],
        "two": turn(name, RED, " cat ", BLUE, " fish"),
        "together": turn(name, "red", RED, WIDE, "house"),
        "twice": turn(name, RED, " is ", RED, "?"),
        "turns": [*turn(name, RED, "What"), "bird", *turn(name, "dog ", BLUE), "red", *turn(name, "is this")],
        "text": turn(name, "What is this dog house?"),
        "long": turn(name, "red bird " * 60, WIDE, " fish house" * 20),
    }


def test_the_plain_way_sees_the_images(name, reference):
    """Else the comparisons below would prove nothing."""
    replies = {reference(turn(name, image, "\nWhat is this?"))[0] for image in (RED, BLUE, WIDE)}
    assert len(replies) > 1
    clear = [reference(parts)[2] for parts in conversations(name).values()]
    assert sum(clear) >= 5
    assert any(len(reference(parts)[0]) > 5 for parts in conversations(name).values())


# One after another.


def test_a_reply_is_that_of_the_plain_way(name, opened, reference):
    engine = opened()
    for parts in conversations(name).values():
        check(tools.ask(engine, prompt_for(engine, parts)), reference(parts))


@pytest.mark.parametrize("changes", [{"n_batch": 20, "n_ubatch": 20}, {"kv_unified": False, "parallel": 2}],
                         ids=["small steps", "partitioned"])  # fmt: skip
def test_other_layouts_give_the_same(name, opened, reference, changes):
    engine = opened(**changes)
    for parts in conversations(name).values():
        check(tools.ask(engine, prompt_for(engine, parts)), reference(parts))


def test_a_device_cut_changes_nothing(name, opened, reference):
    engine = opened(device_cut=40)
    for sampling in (tools.GREEDY, Sampling(temperature=0.0, repeat_penalty=1.0, top_k=10)):
        for parts in list(conversations(name).values())[:5]:
            check(tools.ask(engine, prompt_for(engine, parts, sampling=sampling)), reference(parts))


# Shared beginnings.


def test_the_next_turn_goes_on_from_the_one_before(name, opened, reference):
    engine = opened()
    first = [*turn(name, "dog", RED, "What is this?")]
    reply = tools.ask(engine, prompt_for(engine, first))
    check(reply, reference(first))
    second = [*first, "a red bird", *turn(name, "And ", BLUE, "?")]
    reply_two = tools.ask(engine, prompt_for(engine, second))
    check(reply_two, reference(second))
    # All of the first prompt, that is, unless what follows it is tokenized together with its end.
    assert reply_two.outcome.cached_tokens >= reply.outcome.prompt_tokens - 3
    third = [*second, "fish", *turn(name, "cat")]
    reply_three = tools.ask(engine, prompt_for(engine, third))
    check(reply_three, reference(third))
    assert reply_three.outcome.cached_tokens >= reply_two.outcome.prompt_tokens - 3


def test_another_image_is_not_taken_for_the_same(name, opened, reference):
    engine = opened()
    same = RED.copy()
    other = RED.copy()
    other[0, 0, 0] ^= 255
    flat, tall = RED.reshape(32, 128, 3), RED.reshape(128, 32, 3)
    parts = [turn(name, "red dog fish", image, "What is this?") for image in (RED, same, other, flat, tall)]
    replies = [tools.ask(engine, prompt_for(engine, p)) for p in parts]
    for reply, p in zip(replies, parts, strict=True):
        check(reply, reference(p))
    assert replies[1].outcome.cached_tokens == replies[1].outcome.prompt_tokens - 1
    before = len(prompt_for(engine, turn(name, "red dog fish")[:2]).tokens)
    for reply in replies[2:]:
        # The text before it, and what the model wants around any image.
        assert before - 2 <= reply.outcome.cached_tokens <= before + 4


def test_an_image_that_is_being_evaluated_is_waited_for(name, opened, reference):
    stepped = opened(stepped=True, n_ubatch=24, n_batch=24)
    start = turn(name, "red bird fish house cat dog " * 8, RED, "What is this? ", BLUE)
    parts = [[*start[:-1], ending, start[-1]] for ending in ("red", "fish", "house")]
    replies = [stepped.send(prompt_for(stepped.engine, p)) for p in parts]
    stepped.run()
    for reply, p in zip(replies, parts, strict=True):
        check(reply, reference(p))
    assert all(reply.outcome.cached_tokens > 60 for reply in replies[1:])


# Beside others.


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_texts_and_images_side_by_side_are_what_they_are_alone(name, opened, reference, unified):
    engine = opened(parallel=4, n_ubatch=64, n_batch=64, kv_unified=unified)
    parts = [*conversations(name).values()] * 2
    replies = [tools.send(engine, prompt_for(engine, p)) for p in parts]
    for reply, p in zip(replies, parts, strict=True):
        reply.wait()
        check(reply, reference(p))


def test_text_goes_on_while_images_are_evaluated(name, opened):
    stepped = opened(stepped=True, parallel=2)
    endless = Sampling(temperature=0.0, repeat_penalty=1.0, ignore_end=True)
    text = stepped.send(prompt_for(stepped.engine, turn(name, "red"), max_tokens=1000, sampling=endless))
    stepped.run(lambda: text.deltas >= 2)
    images = stepped.send(prompt_for(stepped.engine, turn(name, *[draw(40, 40, i) for i in range(5)])))
    stepped.step(2)
    (request,) = [r for r in stepped.loop.running if r.pictures is not None]
    while not request.predicted and not images.over.is_set():
        done, deltas = request.done, stepped.loop.counters.predicted_tokens
        stepped.step()
        assert stepped.loop.counters.predicted_tokens > deltas
        # A picture and some text, but never all of them in one step.
        assert request.done - done < 200


def test_images_of_several_requests_take_turns(name, opened, reference):
    stepped = opened(stepped=True, parallel=2, n_ubatch=24, n_batch=24)
    many = turn(name, *[draw(40, 40, i) for i in range(10)])
    first, second = [stepped.send(prompt_for(stepped.engine, p)) for p in (many, turn(name, RED))]
    stepped.run(lambda: second.begun.is_set() or second.over.is_set())
    assert not first.begun.is_set()
    stepped.run()
    check(second, reference(turn(name, RED)))
    check(first, reference(many))


def test_preempted_requests_see_their_images_again(name, opened, reference):
    stepped = opened(stepped=True, n_ctx=160, parallel=3)
    parts = [turn(name, "red", draw(40, 40, i), "What is this?") for i in range(3)]
    sampling = Sampling(temperature=0.0, repeat_penalty=1.0, ignore_end=True)
    generations = [prompt_for(stepped.engine, p, max_tokens=60, sampling=sampling) for p in parts]
    if max(len(g.tokens) for g in generations) > 90:
        generations = generations[:2]
    alone = opened(stepped=True, n_ctx=160, parallel=1)
    expected = [alone.send(prompt_for(alone.engine, p, max_tokens=60, sampling=sampling)) for p in parts]
    alone.run()
    replies = [stepped.send(g) for g in generations]
    stepped.run()
    assert stepped.loop.counters.preempted > 0
    for reply, other in zip(replies, expected, strict=False):
        assert reply.state[1:] == other.state[1:]
        assert reply.text == other.text
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "partitioned"])
def test_many_requests_some_of_them_cancelled(name, opened, reference, unified):
    """What is not cancelled is right, and nothing is left over."""
    layout = {"n_ctx": 512} if unified else {"n_ctx": 1536, "kv_unified": False}
    stepped = opened(stepped=True, parallel=3, n_ubatch=40, n_batch=40, **layout)
    random = np.random.default_rng(3)
    kinds = [p for p in conversations(name).values() if reference(p)[1] < 300]
    sent = []
    for _ in range(60):
        parts = kinds[random.integers(len(kinds))]
        reply = stepped.send(prompt_for(stepped.engine, parts))
        sent.append((reply, parts))
        if random.random() < 0.25:
            stepped.step(int(random.integers(4)))
            sent[random.integers(len(sent))][0].ticket.cancel()
        stepped.step(int(random.integers(6)))
    stepped.run()
    for reply, parts in sent:
        assert reply.over.is_set()
        if reply.error is None:
            check(reply, reference(parts))
        else:
            assert isinstance(reply.error, RequestCancelledError)
    assert all(slot is None for slot in stepped.loop.slots)
    assert not unified or is_accounted_for(stepped.loop)


def test_images_are_preprocessed_in_several_threads_at_once(name, opened, reference):
    engine = opened()
    parts = [turn(name, draw(40 + 8 * i, 64, i), "What is this?") for i in range(8)]
    expected = [prompt_for(engine, p).tokens for p in parts]
    wrong = []

    def work(seed):
        for i in np.random.default_rng(seed).permutation(8):
            generation = prompt_for(engine, parts[i])
            if not np.array_equal(generation.tokens, expected[i]):
                wrong.append(i)
            tools.ask(engine, generation)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    for p in parts:
        check(tools.ask(engine, prompt_for(engine, p)), reference(p))


# Work saved.


@pytest.fixture
def encoded(monkeypatch):
    """Images encoded so far."""
    counts = {"images": 0, "calls": 0}
    real, single, batch = mtmd.mtmd_batch_add_chunk, mtmd.mtmd_encode_chunk, mtmd.mtmd_batch_encode
    waiting = {}

    def add(handle, chunk):
        code = real(handle, chunk)
        waiting[handle] = waiting.get(handle, 0) + (code == 0)
        return code

    def one(*arguments):
        counts["images"] += 1
        counts["calls"] += 1
        return single(*arguments)

    def several(handle):
        counts["images"] += waiting[handle]
        counts["calls"] += 1
        return batch(handle)

    monkeypatch.setattr(mtmd, "mtmd_batch_add_chunk", add)
    monkeypatch.setattr(mtmd, "mtmd_encode_chunk", one)
    monkeypatch.setattr(mtmd, "mtmd_batch_encode", several)
    monkeypatch.setattr(mtmd, "mtmd_batch_free", lambda h, free=mtmd.mtmd_batch_free: (waiting.pop(h, 0), free(h)))
    return counts


def test_an_image_is_encoded_once(name, opened, reference, encoded):
    engine = opened()
    parts = turn(name, RED, " is ", RED, " and ", RED, "?")
    check(tools.ask(engine, prompt_for(engine, parts)), reference(parts))
    once, encoded["images"] = encoded["images"], 0
    check(tools.ask(engine, prompt_for(engine, [*parts, "red", *turn(name, "dog")])),
          reference([*parts, "red", *turn(name, "dog")]))  # fmt: skip
    assert encoded["images"] == 0
    check(tools.ask(engine, prompt_for(engine, turn(name, "dog", RED))), reference(turn(name, "dog", RED)))
    assert encoded["images"] == once


@pytest.mark.parametrize("name", ["internvl3"], indirect=True)
def test_tiles_are_encoded_together_where_the_encoder_can(name, opened, reference, encoded):
    engine = opened()
    parts = turn(name, draw(96, 64))
    check(tools.ask(engine, prompt_for(engine, parts)), reference(parts))
    assert encoded["images"] == 7
    assert encoded["calls"] == 1


# What goes wrong.


def test_an_image_that_cannot_be_encoded_fails_its_request_alone(name, opened, reference, monkeypatch):
    engine = opened(parallel=3)
    bad = draw(40, 40, 99)
    parts = {"bad": turn(name, "fish", bad), "good": turn(name, RED), "text": turn(name, "red dog")}
    generations = {key: prompt_for(engine, p) for key, p in parts.items()}
    handles = {p.chunk.handle for p in generations["bad"].images.within(0, 10**6)}
    one, several = mtmd.mtmd_encode_chunk, mtmd.mtmd_batch_encode
    add, begin, failing = mtmd.mtmd_batch_add_chunk, mtmd.mtmd_batch_init, set()

    def beginning(context):
        batch = begin(context)
        failing.discard(batch)
        return batch

    def adding(batch, chunk):
        if chunk in handles:
            failing.add(batch)
        return add(batch, chunk)

    monkeypatch.setattr(mtmd, "mtmd_batch_init", beginning)
    monkeypatch.setattr(mtmd, "mtmd_batch_add_chunk", adding)
    monkeypatch.setattr(mtmd, "mtmd_encode_chunk", lambda c, chunk: 1 if chunk in handles else one(c, chunk))
    monkeypatch.setattr(mtmd, "mtmd_batch_encode", lambda b: 1 if b in failing else several(b))
    replies = {key: tools.send(engine, g) for key, g in generations.items()}
    with pytest.raises(EngineError, match="encode"):
        replies["bad"].wait()
    for key in ("good", "text"):
        replies[key].wait()
        check(replies[key], reference(parts[key]))
    monkeypatch.undo()
    check(tools.ask(engine, prompt_for(engine, parts["bad"])), reference(parts["bad"]))


def test_a_request_is_cancelled_while_its_image_waits(name, opened, reference):
    stepped = opened(stepped=True, parallel=2, n_ubatch=20, n_batch=20)
    waiting = stepped.send(prompt_for(stepped.engine, turn(name, *[draw(64, 64, i) for i in range(6)])))
    other = stepped.send(prompt_for(stepped.engine, turn(name, RED)))
    stepped.step(3)
    waiting.ticket.cancel()
    stepped.run()
    assert isinstance(waiting.error, RequestCancelledError)
    check(other, reference(turn(name, RED)))
    # What it has left in the cache is used as far as it goes.
    again = turn(name, *[draw(64, 64, i) for i in range(6)])
    reply = stepped.send(prompt_for(stepped.engine, again))
    stepped.run()
    check(reply, reference(again))
    assert is_accounted_for(stepped.loop)


@pytest.mark.parametrize("code", [1, 2, -1, -2, ("after", 2)], ids=str)
def test_a_failing_decode_of_an_image_is_survived(name, opened, reference, monkeypatch, code):
    stepped = opened(stepped=True, parallel=2)
    parts = [turn(name, "dog", RED), turn(name, "What is", BLUE, WIDE)]
    failures = iter([code] if code == -2 else [code, code])
    faults = tools.Faults(monkeypatch, lambda call, batch: next(failures, None) if batch.embd else None)
    replies = [stepped.send(prompt_for(stepped.engine, p)) for p in parts]
    stepped.run()
    assert faults.faults == (1 if code == -2 else 2)
    for reply, p in zip(replies, parts, strict=True):
        if reply.error is not None:
            assert code in (-1, -2)
            assert isinstance(reply.error, EngineError)
        else:
            check(reply, reference(p))
    replies = [stepped.send(prompt_for(stepped.engine, p)) for p in parts]
    stepped.run()
    for reply, p in zip(replies, parts, strict=True):
        check(reply, reference(p))
    assert is_accounted_for(stepped.loop)


def test_a_prompt_is_too_long_with_its_images(name, opened, reference):
    engine = opened(n_ctx=256)
    images = [draw(64, 64, i) for i in range(40)]
    generation = prompt_for(engine, turn(name, *images))
    with pytest.raises(PromptTooLongError) as caught:
        tools.send(engine, generation)
    assert caught.value.tokens == len(generation.tokens) > caught.value.limit
    check(tools.ask(engine, prompt_for(engine, turn(name, "red"))), reference(turn(name, "red")))


def test_an_image_that_has_to_be_seen_at_once_needs_the_room(files, opened, reference, name):
    engine = opened(n_ubatch=8, n_batch=64)
    if name != "gemma3":
        check(tools.ask(engine, prompt_for(engine, turn(name, RED))), reference(turn(name, RED)))
        return
    with pytest.raises(PromptTooLongError, match="n_ubatch") as caught:
        prompt_for(engine, turn(name, RED))
    assert (caught.value.tokens, caught.value.limit) == (16, 8)


def test_penalties_and_probabilities_take_no_note_of_images(name, opened):
    engine = opened()
    parts = turn(name, "What is this?", *[draw(64, 64, i) for i in range(5)])
    sampling = Sampling(temperature=0.0, repeat_penalty=1.3, repeat_last_n=-1, frequency_penalty=0.1)
    reply = tools.ask(engine, prompt_for(engine, parts, sampling=sampling, logprobs=3))
    assert reply.outcome.completion_tokens == len(reply.logprobs)
    assert all(p.logprob <= 0 and len(p.top) == 3 for p in reply.logprobs)


def test_the_images_of_a_request_are_freed_when_it_ends(name, opened):
    engine = opened()
    generation = prompt_for(engine, turn(name, RED))
    prepared = generation.images._prepared[0]
    tools.ask(engine, generation)
    assert not prepared._free.alive
    dropped = prompt_for(engine, turn(name, RED))
    watched = weakref.ref(dropped.images._prepared[0])
    del dropped
    gc.collect()
    assert watched() is None


def test_a_closed_engine_takes_no_images(name, opened):
    engine = opened()
    generation = prompt_for(engine, turn(name, RED))
    engine.close()
    with pytest.raises(EngineDeadError):
        engine.place(generation, [])


def test_engines_say_what_they_take(name, opened, files, model_file):
    assert opened().takes_images
    assert f"images by mmproj-{name}.gguf" in opened().kernel_path
    text = tools.LlamaChatEngine(tools.config_for(files[name]))
    assert not text.takes_images
    assert "images" not in text.kernel_path
    text.close()
    with pytest.raises(ModelLoadError):
        tools.LlamaChatEngine(tools.config_for(model_file, projector=files[name]))
