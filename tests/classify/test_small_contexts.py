"""Contexts too small for the question: a typed error with the numbers, never a truncation and never a dead engine."""

from __future__ import annotations

import pickle

import pytest

from fastinfer.errors import PromptTooLongError

TINY = {"n_ctx": 64, "n_batch": 64, "n_ubatch": 64, "workers": 1}
MANY = [f"label {i} {j}" for i in range(20) for j in range(20)]
LONG = ["word " * 100 + "one", "word " * 100 + "two", "short"]


def test_a_prompt_longer_than_the_context_is_an_error_with_the_numbers(fresh, pictures):
    classifier = fresh(prompt="What is this, and why? " * 40, **TINY)
    with pytest.raises(PromptTooLongError) as error:
        classifier.classify(pictures[0], labels=["cat", "dog"])
    assert error.value.tokens > 64
    assert error.value.limit == 64
    assert str(error.value.tokens) in str(error.value)
    assert "n_ctx" in error.value.hint
    again = pickle.loads(pickle.dumps(error.value))
    assert (again.tokens, again.limit) == (error.value.tokens, error.value.limit)


@pytest.mark.parametrize("labels", [MANY, LONG], ids=["many labels", "long labels"])
def test_labels_that_leave_no_room_for_the_prompt_are_the_same_error(fresh, pictures, labels):
    classifier = fresh(**TINY)
    with pytest.raises(PromptTooLongError) as error:
        classifier.classify(pictures[0], labels=labels)
    assert 0 <= error.value.limit < error.value.tokens
    assert "labels" in error.value.hint


def test_the_classifier_goes_on_after_one_that_did_not_fit(fresh, pictures, shared_open, same):
    classifier = fresh(**TINY)
    question = ["red circle", "red square"]
    results = list(classifier.classify_many(pictures, labels=MANY, errors="return"))
    assert all(isinstance(r.error, PromptTooLongError) for r in results)
    same(classifier.classify(pictures[0], labels=question), shared_open.classify(pictures[0], labels=question))


def test_a_context_for_one_image_takes_a_batch_one_by_one(fresh, pictures, shared, labels, same):
    classifier = fresh(labels=labels, **TINY)
    for result, image in zip(classifier.classify_many(pictures), pictures, strict=True):
        same(result, shared.classify(image))
        assert result.timings.batch_size <= 2


@pytest.mark.parametrize("n_batch", [1, 16, 64])
def test_labels_longer_than_a_batch_are_scored_in_pieces(fresh, pictures, shared_open, same, n_batch):
    classifier = fresh(n_batch=n_batch, n_ubatch=n_batch, workers=1)
    same(classifier.classify(pictures[0], labels=LONG), shared_open.classify(pictures[0], labels=LONG))


def test_labels_that_branch_at_every_word(fresh, pictures, shared_open):
    labels = [" ".join(["a"] * depth + [end, "x"]) for depth in range(60) for end in ("b", "c")]
    result = shared_open.classify(pictures[0], labels=labels)
    assert set(result.probabilities) == set(labels)
    assert shared_open.classify(pictures[0]).ok


def test_a_name_is_cut_at_the_presets_number_of_tokens(fresh, pictures, shared_open):
    full = shared_open.classify(pictures[0]).label
    short = fresh(max_label_tokens=1, workers=1).classify(pictures[0]).label
    assert full.startswith(short)
    assert len(short) < len(full)
