"""What a vocabulary says about its tokens."""

from __future__ import annotations

import pytest

from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def embedded():
    from importlib.resources import files

    model = LlamaModel(files("fastinfer.models.embedded") / "embedded.gguf")
    yield Vocabulary(model)
    model.close()


TEXTS = ["", "hello", " hello  hello\n\n\n", "é 犬 😀", "a\x00b", "\t<h1> x", "\ufdd0\ufdd1"]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_of_the_tokens_are_the_text(vocabulary, text):
    tokens = vocabulary.tokenize(text, special=False)
    whole = b"".join(map(vocabulary.piece, tokens)).decode()
    assert whole == text or (whole == " " + text and vocabulary.architecture == "llama")


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_continues_other_text_gets_no_space(vocabulary, text):
    tokens = vocabulary.tokenize(text, special=False, continues=True)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text


def test_the_table_of_pieces_is_the_pieces(vocabulary):
    assert vocabulary.pieces() == [vocabulary.piece(token) for token in range(vocabulary.size)]


def test_control_tokens_show_where_they_are_asked_to(vocabulary):
    text, token = next((t, i) for t, i in vocabulary.special_tokens.items() if t.startswith("<|"))
    table = vocabulary.pieces(visible=(text, "<no such token>"))
    assert table[token] == text.encode() == vocabulary.piece(token, special=True)
    assert vocabulary.piece(token) == b""
    del table[:]
    assert len(vocabulary.pieces()) == vocabulary.size


def test_a_long_piece_is_whole(make_vocabulary, vocabularies):
    seed = vocabularies["bpe"]
    token = seed.user_defined_tokens["<seed:cot_budget_reflect>"]
    assert seed.piece(token) == b"<seed:cot_budget_reflect>"


def test_special_and_user_defined_tokens_are_told_apart(seed):
    assert {"<seed:bos>", "<|im_end|>", "☃"} <= set(seed.special_tokens)
    assert {"<think>", "</seed:tool_call>", "\n\n"} <= set(seed.user_defined_tokens)
    assert not set(seed.special_tokens) & set(seed.user_defined_tokens)
    for text, token in {**seed.special_tokens, **seed.user_defined_tokens}.items():
        assert seed.tokenize(text, special=True) == [token]
    assert seed.special_tokens["<|im_end|>"] not in seed.tokenize("<|im_end|>", special=False)


def test_specials_come_longest_first(vocabulary):
    lengths = [len(s.text.encode()) for s in vocabulary.specials]
    assert lengths == sorted(lengths, reverse=True)


def test_unknown_is_special_and_white_space_around_specials_is_known(vocabularies):
    assert "<unk>" in vocabularies["spm"].special_tokens
    strips = {s.text: s.rstrip for s in vocabularies["phi-3"].specials}
    assert strips["<|user|>"]
    assert not strips["<s>"]


def test_bos_and_ends(vocabularies):
    seed, spm = vocabularies["bpe"], vocabularies["spm"]
    assert (seed.bos, seed.eos, seed.adds_bos) == ("<seed:bos>", "<seed:eos>", False)
    assert (spm.bos, spm.bos_token, spm.adds_bos) == ("<s>", 1, True)
    assert seed.special_tokens["<seed:eos>"] in seed.end_tokens
    assert seed.tokenize("a", special=False)[0] not in seed.end_tokens


def test_architecture_and_templates(make_vocabulary):
    named = [{"name": "default", "template": "{{ 'main' }}"}, {"name": "tool_use", "template": "{{ 'tools' }}"}]
    vocabulary = make_vocabulary(templates=named)
    assert vocabulary.architecture == "seed_oss"
    assert vocabulary.chat_template() == "{{ 'main' }}"
    assert vocabulary.chat_template("tool_use") == "{{ 'tools' }}"
    assert vocabulary.chat_template("rag") is None
    assert make_vocabulary().chat_template() is None


def test_the_embedded_models_vocabulary(embedded):
    assert embedded.size == len(embedded.pieces())
    assert embedded.end_tokens
    text = "What is the colour of this circle?\n"
    assert b"".join(map(embedded.piece, embedded.tokenize(text, special=False))).decode() == text
