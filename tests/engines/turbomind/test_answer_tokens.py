"""Names out of generated tokens, with a real tokenizer that is small enough to be built here."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastinfer.engines.turbomind.answer_tokens import AnswerTokens

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ("<end>", "a", "red", "circle", "<stop>", "cat")
END, A, RED, CIRCLE, STOP, CAT = range(len(WORDS))


@pytest.fixture(scope="module")
def answers() -> AnswerTokens:
    """Of a tokenizer of whole words; its own end token is not the one that the checkpoint adds."""
    core: Any = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "a"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", additional_special_tokens=["<stop>"]
    )
    return AnswerTokens(tokenizer, [STOP])


def chances(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_the_tokens_that_end_an_answer_are_the_checkpoints_and_the_tokenizers(answers: AnswerTokens) -> None:
    assert answers.end_tokens == (END, STOP)


@pytest.mark.parametrize("end", [END, STOP])
def test_a_name_that_ends_counts_the_token_that_ends_it(answers: AnswerTokens, end: int) -> None:
    named = answers.naming([A, CAT, end], chances(0.5, 0.5, 0.4), 12)
    assert (named.text, named.complete) == ("a cat", True)
    assert named.probability == pytest.approx(0.1)


def test_what_is_generated_after_the_end_does_not_count(answers: AnswerTokens) -> None:
    named = answers.naming([CAT, END, RED, END], chances(0.5, 0.5, 0.1, 0.1), 12)
    assert (named.text, named.complete) == ("cat", True)
    assert named.probability == pytest.approx(0.25)


def test_a_name_as_long_as_the_limit_is_complete_when_it_ends_there(answers: AnswerTokens) -> None:
    named = answers.naming([A, RED, END], chances(0.5, 0.5, 0.2), 2)
    assert (named.text, named.complete) == ("a red", True)
    assert named.probability == pytest.approx(0.05)


def test_a_longer_name_is_cut_at_the_limit_and_is_not_complete(answers: AnswerTokens) -> None:
    named = answers.naming([A, RED, CIRCLE], chances(0.5, 0.5, 0.2), 2)
    assert (named.text, named.complete) == ("a red", False)
    assert named.probability == pytest.approx(0.25)


def test_an_answer_that_ends_at_once_is_an_empty_name(answers: AnswerTokens) -> None:
    named = answers.naming([STOP], chances(0.75), 12)
    assert (named.text, named.complete) == ("", True)
    assert named.probability == pytest.approx(0.75)
