"""The architectures that users take from the hub, as tiny models with random weights, against brute force.

Brute force is llama.cpp used in the plainest way: a context of its own, mtmd's tokenizer on the prompt written out by
hand, its helper for each chunk, then the tokens of one label one by one, all of it again for the next label.
"""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import fastinfer
import plain_mtmd as plain
import tiny_models as tiny
from fastinfer.errors import ModelLoadError, PresetError, PromptTooLongError
from fastinfer.images import load_image, to_rgb_array
from fastinfer.prompts import limits

NAMES = list(tiny.ARCHITECTURES)
LABELS = ["dog", "dog house", "cat", "a red bird house", "a red cat fish", "a red", "fish", "犬"]
QUESTION = "What is this?"
SIZES = [(64, 64), (120, 40), (40, 100), (33, 70), (200, 150), (8, 8)]
MAX_TOKENS = 6


IMAGES = [plain.draw(*size) for size in SIZES]


class BruteForce(plain.PlainMtmd):
    """Probabilities the slow way, for one model."""

    def __init__(self, path, architecture):
        super().__init__(path)
        self.architecture = architecture
        self.ends = [t for t in range(self.size) if self.llama.llama_vocab_is_eog(self.vocab, t)]

    def tokens(self, text):
        data = text.encode()
        room = (ctypes.c_int32 * (len(data) + 8))()
        count = self.llama.llama_tokenize(self.vocab, data, len(data), room, len(room), False, False)
        assert count > 0
        return list(room[:count])

    def piece(self, token):
        buffer = ctypes.create_string_buffer(64)
        size = self.llama.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
        return buffer.raw[:size]

    def chunks(self, pixels):
        """mtmd's chunks of the whole prompt; free them."""
        mtmd = self.mtmd
        marker = mtmd.mtmd_get_marker(self.encoder).decode()
        prompt = self.architecture.prompt.format(image=marker, text=QUESTION).encode()
        text = mtmd.mtmd_input_text(prompt, len(prompt), True, True)
        pixels = np.ascontiguousarray(pixels)
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(pixels.shape[1], pixels.shape[0], data)
        chunks = mtmd.mtmd_input_chunks_init()
        assert mtmd.mtmd_tokenize(self.encoder, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1) == 0
        mtmd.mtmd_bitmap_free(bitmap)
        return chunks

    def layout(self, pixels):
        """The prompt's chunks: tokens of text, and the number of tokens of an image."""
        mtmd, found = self.mtmd, []
        chunks = self.chunks(pixels)
        for i in range(mtmd.mtmd_input_chunks_size(chunks)):
            chunk = mtmd.mtmd_input_chunks_get(chunks, i)
            count = ctypes.c_size_t()
            if mtmd.mtmd_input_chunk_get_type(chunk) == 0:
                found.append(list(mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))[: count.value]))
            else:
                found.append(mtmd.mtmd_input_chunk_get_n_tokens(chunk))
        mtmd.mtmd_input_chunks_free(chunks)
        return found

    def start(self, pixels):
        """Evaluate a prompt in an empty context; the next position, and log-probabilities of the next token."""
        llama, mtmd = self.llama, self.mtmd
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        chunks = self.chunks(pixels)
        position, count = 0, mtmd.mtmd_input_chunks_size(chunks)
        for i in range(count):
            chunk = mtmd.mtmd_input_chunks_get(chunks, i)
            reached = ctypes.c_int32(position)
            code = mtmd.mtmd_helper_eval_chunk_single(
                self.encoder, self.context, chunk, position, 0, 512, i == count - 1, ctypes.byref(reached)
            )
            assert code == 0
            position = reached.value
        mtmd.mtmd_input_chunks_free(chunks)
        return position, self.scores()

    def step(self, token, position):
        batch = self.batch
        batch.n_tokens, batch.token[0], batch.pos[0] = 1, token, position
        batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 0, True
        assert self.llama.llama_decode(self.context, batch) == 0
        return self.scores()

    def scores(self):
        logits = self.llama.llama_get_logits_ith(self.context, -1)
        row = np.ctypeslib.as_array(logits, shape=(self.size,)).astype(np.float64)
        return row - row.max() - np.log(np.exp(row - row.max()).sum())

    def label(self, pixels, label, labels):
        """Probability of a label; of one that another one continues, with the end of the answer."""
        lead = self.architecture.lead
        tokens = self.tokens(lead + label)
        others = [self.tokens(lead + other) for other in labels if other != label]
        position, scores = self.start(pixels)
        total = 0.0
        for i, token in enumerate(tokens):
            total += scores[token]
            scores = self.step(token, position + i)
        if any(other[: len(tokens)] == tokens for other in others):
            total += np.log(np.exp(scores[self.ends]).sum())
        return float(np.exp(total))

    def name(self, pixels):
        """Greedy answer: text, probability, whether it ended, and the smallest lead of a token over the next one."""
        position, scores = self.start(pixels)
        total, text, lead = 0.0, b"", np.inf
        for step in range(MAX_TOKENS + 1):
            second, first = np.sort(scores)[-2:]
            token = int(scores.argmax())
            if token not in self.ends and step == MAX_TOKENS:
                break
            total, lead = total + first, min(lead, first - second)
            if token in self.ends:
                return text.decode("utf-8", "replace").strip(), float(np.exp(total)), True, lead
            text += self.piece(token)
            scores = self.step(token, position + step)
        return text.decode("utf-8", "replace").strip(), float(np.exp(total)), False, lead


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tiny-models")


@pytest.fixture(scope="session")
def paths(folder):
    return {name: tiny.write_model(folder / name, a) for name, a in tiny.ARCHITECTURES.items()}


@pytest.fixture(scope="module", params=NAMES)
def architecture(request):
    return tiny.ARCHITECTURES[request.param]


@pytest.fixture(scope="module")
def path(architecture, paths):
    return paths[architecture.name]


def prepared(architecture, image):
    """The pixels that reach the encoder."""
    size = (32, 32) if architecture.projector == "internvl" else None
    return to_rgb_array(load_image(image, max_pixels=10**8, size=size))


@pytest.fixture(scope="module")
def brute_force(path, architecture):
    computer = BruteForce(path, architecture)
    yield computer
    computer.close()


@pytest.fixture(scope="module")
def expected(brute_force, architecture):
    """Of each image, the probability of each label over the whole vocabulary."""
    pixels = [prepared(architecture, image) for image in IMAGES]
    return [{label: brute_force.label(p, label, LABELS) for label in LABELS} for p in pixels]


def open_model(path, labels=LABELS, **changes):
    options = {"n_ctx": 2048, "n_batch": 512, "n_ubatch": 512, "n_threads": 1, "workers": 1, "prompt": QUESTION}
    options |= {"open_prompt": QUESTION, "max_label_tokens": MAX_TOKENS, "decode_workers": 2}
    # As exact as llama.cpp computes, so that what differs is wrong and not rounded.
    options |= {"type_k": "f32", "type_v": "f32", "flash_attn": False} | changes
    return fastinfer.classifier("embedded", model=path, labels=labels, **options)


def together(classifier, images):
    """Results of images that are all in the queue before the engine takes the first."""
    job = classifier._job(None)
    for _ in images:
        job.expect()
    with classifier._engine._core._condition:
        started = [job.start(image) for image in images]
    return [
        job.finish(image, scores.result(60), milliseconds)
        for image, (scores, milliseconds) in zip(images, started, strict=True)
    ]


def check(results, expected, abs=5e-4):
    for result, of_label in zip(results, expected, strict=True):
        mass = sum(of_label.values())
        assert result.ok
        assert result.label_mass == pytest.approx(mass, rel=20 * abs)
        assert result.probabilities == pytest.approx({k: p / mass for k, p in of_label.items()}, abs=abs)


# Labels.


def test_brute_force_sees_the_images(expected):
    """Else the comparisons below would prove nothing."""
    shares = [of["dog"] / sum(of.values()) for of in expected]
    others = [of["fish"] / sum(of.values()) for of in expected]
    assert max(max(shares) - min(shares), max(others) - min(others)) > 0.05


@pytest.mark.parametrize("size", [1, 4])
def test_labels_equal_brute_force_in_batches_of_images_of_different_sizes(path, expected, size):
    with open_model(path, vision_max_batch_size=size) as classifier:
        results = together(classifier, IMAGES)
        assert max(r.timings.batch_size for r in results) == size
        check(results, expected)
        check(together(classifier, IMAGES[::-1]), expected[::-1])
        check(list(classifier.classify_many(IMAGES)), expected)


def test_labels_are_near_brute_force_with_flash_attention_and_a_cache_of_f16(path, expected):
    """Random weights magnify its rounding more than trained ones do."""
    with open_model(path, type_k="f16", type_v="f16", flash_attn=True) as classifier:
        check(together(classifier, IMAGES), expected, abs=0.02)


def test_labels_equal_brute_force_with_several_workers(path, expected):
    with open_model(path, workers=3) as classifier:
        check(list(classifier.classify_many(IMAGES * 2)), expected * 2)


def test_labels_equal_brute_force_where_the_context_holds_one_or_two_images(path, expected):
    with open_model(path, n_ctx=256, n_batch=256, n_ubatch=256, vision_max_batch_size=6) as classifier:
        check(together(classifier, IMAGES), expected)


def test_labels_equal_brute_force_where_prompts_and_images_are_cut_into_steps(path, expected):
    with open_model(path, n_batch=16, n_ubatch=16) as classifier:
        check(together(classifier, IMAGES), expected)


def test_an_image_follows_another_label_set_and_prompt(path, expected):
    with open_model(path) as classifier:
        for _ in range(2):
            classifier.classify(IMAGES[1], labels=["bird"])
            classifier.labels = None
            classifier.classify(IMAGES[2])
            classifier.labels = LABELS
            check([classifier.classify(IMAGES[0])], expected[:1])


# Prompts.


def test_the_prompt_is_that_of_the_template(path, brute_force, architecture):
    with open_model(path) as classifier:
        worker = classifier._engine._core._workers[0]
        prompt = classifier._engine._core._model.render(QUESTION)
        for image in IMAGES:
            pixels = prepared(architecture, image)
            with worker._encoder.prepare(prompt, pixels) as ready:
                layout = [c.n_tokens if c.tokens is None else c.tokens.tolist() for c in ready.chunks]
            assert layout == brute_force.layout(pixels)
    bos = brute_force.llama.llama_vocab_bos(brute_force.vocab)
    assert layout[0].count(bos) == (1 if architecture.bos or architecture.name == "smolvlm" else layout[0].count(bos))
    if architecture.bos:
        assert layout[0][0] == bos


def test_an_answer_starts_with_a_space_only_after_a_word(path, brute_force, architecture):
    with open_model(path) as classifier:
        tokens = classifier._engine.tokenize_label("dog", QUESTION)
    assert b"".join(map(brute_force.piece, tokens)) == (b" dog" if architecture.name == "smolvlm" else b"dog")
    assert tokens == brute_force.tokens(architecture.lead + "dog")


def test_the_layouts_are_those_the_architectures_are_known_for(brute_force, architecture):
    layouts = [brute_force.layout(prepared(architecture, image)) for image in IMAGES]
    images = [[c for c in layout if isinstance(c, int)] for layout in layouts]
    texts = [[c for c in layout if not isinstance(c, int)] for layout in layouts]
    if architecture.name == "smolvlm":  # an overview and 4x4, 4x2, 2x4, 2x4, 4x3, 4x4 slices, each in text
        assert [len(i) for i in images] == [17, 9, 9, 9, 13, 17]
        assert all(len(t) == len(i) + 1 for t, i in zip(texts, images, strict=True))
    elif architecture.projector == "internvl":  # resized to one tile
        assert images == [[4]] * len(IMAGES)
    elif architecture.name == "gemma3":
        assert images == [[16]] * len(IMAGES)
    else:
        assert len({i[0] for i in images}) >= 4
    looks_ahead = bool(brute_force.mtmd.mtmd_decode_use_non_causal(brute_force.encoder, None))
    assert looks_ahead == (architecture.name == "gemma3")
    assert bool(brute_force.mtmd.mtmd_decode_use_mrope(brute_force.encoder)) == architecture.name.startswith("qwen")


# Names.


def test_names_equal_greedy_brute_force(path, brute_force, architecture):
    wanted = [brute_force.name(prepared(architecture, image)) for image in IMAGES]
    with open_model(path, labels=None, vision_max_batch_size=4) as classifier:
        results = together(classifier, IMAGES)
    # Where two tokens are all but equal, either may come first.
    clear = [(r, w) for r, w in zip(results, wanted, strict=True) if w[3] > 0.005]
    assert len(clear) >= 4
    for result, (text, probability, _, _) in clear:
        assert result.label == text
        assert result.confidence == pytest.approx(probability, rel=0.01)


def test_some_names_end_and_some_are_cut(paths):
    ended = []
    for name, architecture in tiny.ARCHITECTURES.items():
        computer = BruteForce(paths[name], architecture)
        ended += [computer.name(prepared(architecture, image))[2] for image in IMAGES]
        computer.close()
    assert 3 < sum(ended) < len(ended) - 3


# Limits.


@pytest.mark.parametrize("name", ["smolvlm", "qwen2vl", "qwen25vl"])
def test_an_image_of_too_many_tokens_fails_alone(paths, name):
    large, small = {"smolvlm": ((64, 64), (120, 40))}.get(name, ((640, 480), (64, 64)))
    images = [plain.draw(*small), plain.draw(*large), plain.draw(*small, seed=1)]
    with open_model(paths[name], n_ctx=112, n_batch=112, n_ubatch=112) as classifier:
        results = list(classifier.classify_many(images, errors="return"))
        assert [r.ok for r in results] == [True, False, True]
        error = results[1].error
        assert isinstance(error, PromptTooLongError)
        assert error.tokens > error.limit
        with pytest.raises(PromptTooLongError):
            classifier.classify(images[1])
        assert classifier.classify(images[0]).probabilities == pytest.approx(results[0].probabilities, abs=1e-3)


def test_an_image_that_has_to_be_seen_at_once_needs_the_room(paths):
    """llama.cpp would end the process."""
    with open_model(paths["gemma3"], n_batch=64, n_ubatch=8) as classifier:
        with pytest.raises(PromptTooLongError, match="n_ubatch") as caught:
            classifier.classify(IMAGES[0])
        assert (caught.value.tokens, caught.value.limit) == (16, 8)


def test_names_of_more_images_than_a_step_has_tokens(paths):
    with open_model(paths["qwen2vl"], labels=None, n_batch=2, n_ubatch=2, vision_max_batch_size=6) as classifier:
        assert all(r.ok for r in together(classifier, IMAGES))


def test_the_number_of_tiles_is_adjusted_and_strict_refuses_that(path, architecture):
    if architecture.projector != "internvl":
        with open_model(path, strict=True) as classifier:
            assert classifier.provenance.adjustments == ()
        return
    with open_model(path) as classifier:
        (adjustment,) = classifier.provenance.adjustments
        assert (adjustment.field, adjustment.asked, adjustment.used) == ("image_tiles", 12, 1)
        assert "32x32" in adjustment.why
        assert "4 tokens" in adjustment.why
        assert (
            classifier.classify(plain.draw(640, 64)).prompt_tokens
            == classifier.classify(plain.draw(8, 8)).prompt_tokens
        )
    with pytest.raises(PresetError, match="image_tiles"):
        open_model(path, strict=True)


# Templates and tokenizers of other models.


def variant(folder, name, **changes):
    architecture = dataclasses.replace(tiny.ARCHITECTURES[name], **changes)
    number = len(list(folder.iterdir()))
    return tiny.write_model(folder / f"variant-{number}", architecture)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("smolvlm", {"bos": True}),
        ("gemma3", {"bos": False}),
        ("gemma3", {"template": "<bos>" + tiny.GEMMA3_TEMPLATE.replace("{{ bos_token }}", "")}),
    ],
    ids=["text of BOS, and the tokenizer adds it", "variable, and it does not", "text, and it does"],
)
def test_bos_is_there_once(folder, name, changes):
    path = variant(folder, name, **changes)
    with open_model(path) as classifier:
        core = classifier._engine._core
        with core._workers[0]._encoder.prepare(core._model.render(QUESTION), IMAGES[0]) as ready:
            first = ready.chunks[0].tokens.tolist()
    bos = tiny.BOS[name]
    assert first[0] == bos
    assert first.count(bos) == 1


LISTS_ONLY = {
    "an error of its own": "{{ raise_exception('Lists only.') if message.content is string }}",
    "an undefined value in an expression": "{% set ignored = 'type: ' + message.content[0]['type'] %}",
    "an undefined value with a dot": "{% set ignored = message.content[0].type.upper %}",
    "nothing at all": "",
}


@pytest.mark.parametrize("complaint", LISTS_ONLY.values(), ids=LISTS_ONLY)
def test_templates_that_take_lists_alone_are_given_lists(folder, complaint):
    template = (
        "{% for message in messages %}" + complaint + "<|im_start|>{{ message.role }}\n"
        "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>"
        "\n{% endfor %}{{ '<|im_start|>assistant\n' }}"
    )
    with open_model(variant(folder, "qwen2vl", template=template)) as classifier:
        parts = classifier._engine._core._model.render(QUESTION).parts
    assert parts == (
        ("<|im_start|>user\n", True), (None, True), (f"\n{QUESTION}", False),
        ("<|im_end|>\n<|im_start|>assistant\n", True),
    )  # fmt: skip


@pytest.mark.parametrize("labels", [LABELS, None], ids=["labels", "names"])
@pytest.mark.parametrize(
    "template",
    [None, "{% for message in messages %}", "{{ raise_exception('never') }}", "{{ nothing.at.all }}", "no message"],
)
def test_a_model_without_a_usable_template_does_not_load(folder, template, labels):
    path = variant(folder, "qwen2vl", template=template)
    with pytest.raises(ModelLoadError, match="chat template"):
        open_model(path, labels=labels)


@pytest.mark.parametrize(
    "bomb",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% set l = [] %}{% for i in range(99999) %}{% set _ = l.append('x' * 10000000) %}{% endfor %}",
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{{ ''.__class__.__mro__ }}{{ raise_exception.__globals__.os }}",
    ],
)
def test_a_template_that_would_do_harm_is_ended_when_the_model_is_opened(folder, monkeypatch, bomb):
    monkeypatch.setattr(limits, "MAX_SECONDS", 0.3)
    with pytest.raises(ModelLoadError, match="chat template"), open_model(variant(folder, "qwen2vl", template=bomb)):
        pass


@pytest.mark.parametrize(("ending", "start"), [("model\n", b"dog"), ("model:", b" dog")])
def test_a_tokenizer_that_puts_a_space_first_does_not_put_it_into_answers(folder, ending, start):
    template = tiny.GEMMA3_TEMPLATE.replace("model\n'}}", ending + "'}}")
    with open_model(variant(folder, "gemma3", space_prefix=True, template=template)) as classifier:
        tokens = classifier._engine.tokenize_label("dog", QUESTION)
    assert b"".join(tiny.spm_piece(t) for t in tokens) == start


# The process.

SCRIPT = """
import sys
import numpy as np
import fastinfer
for path in sys.argv[1:]:
    classifier = fastinfer.classifier(model=path, labels=["dog", "cat"], n_ctx=1024, n_batch=256, n_ubatch=256)
    images = [np.full((40, 60 + 20 * i, 3), 40 * i, np.uint8) for i in range(5)]
    found = [r.label for r in classifier.classify_many(images)]
    classifier.labels = None
    found += [r.label for r in classifier.classify_many(images)]
    assert len(found) == 10
    classifier.close()
    classifier.close()
left = fastinfer.classifier(model=path, labels=["dog", "cat"])
left.classify(images[0])
print("done")
"""


def test_loading_using_and_closing_says_nothing(paths):
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, *map(str, paths.values())]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stderr == ""
    assert ran.stdout == "done\n"
    assert ran.returncode == 0


def test_the_models_are_small_and_the_same_each_time(paths, folder):
    for name, path in paths.items():
        again = variant(folder, name)
        for file in path.parent.iterdir():
            assert file.stat().st_size < 300_000
            assert file.read_bytes() == (again.parent / file.name).read_bytes()
