"""Log-probabilities out of what TurboMind leaves of a token, against torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastinfer.engines.turbomind.rows import ScoreRows, Wanted

torch = pytest.importorskip("torch")

VOCABULARY = 97


def drawn(rows: int, width: int = VOCABULARY) -> list[Any]:
    """Scores as TurboMind gives them: bfloat16, on the CPU."""
    generator = torch.Generator().manual_seed(7)
    return list((torch.randn(rows, width, generator=generator) * 6).to(torch.bfloat16))


def wanted(*tokens: int) -> Wanted:
    return Wanted(np.array(tokens, dtype=np.int64))


def expected(row: Any) -> Any:
    return torch.log_softmax(row[:VOCABULARY].double(), dim=0)


def test_the_log_probabilities_are_those_of_a_softmax_over_the_vocabulary() -> None:
    rows, ask = drawn(5), wanted(0, 96, 13, 13)
    for row, scores in zip(rows, ScoreRows([2, 5], VOCABULARY).score(rows, [ask] * 5), strict=True):
        assert scores.tokens.dtype == np.float64
        assert scores.tokens == pytest.approx(expected(row)[[0, 96, 13, 13]].numpy(), abs=1e-4)
        assert scores.end == pytest.approx(float(expected(row)[[2, 5]].logsumexp(0)), abs=1e-4)


def test_rows_that_ask_for_different_tokens_each_get_their_own() -> None:
    rows, first, second = drawn(6), wanted(1, 2, 3), wanted(50)
    asks = [first, second, first, wanted(), second, wanted(3, 2)]
    for row, ask, scores in zip(rows, asks, ScoreRows([9], VOCABULARY).score(rows, asks), strict=True):
        assert scores.tokens.shape == ask.tokens.shape
        assert scores.tokens == pytest.approx(expected(row)[ask.tokens].numpy(), abs=1e-4)
        assert scores.end == pytest.approx(float(expected(row)[9]), abs=1e-4)


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    rows, ask = drawn(4), wanted(*range(VOCABULARY))
    scorer = ScoreRows([0], VOCABULARY)
    together = scorer.score(rows, [ask] * 4)
    for row, scores in zip(rows, together, strict=True):
        alone = scorer.score([row], [ask])[0]
        assert alone.tokens == pytest.approx(scores.tokens, abs=1e-5)
        assert np.exp(alone.tokens).sum() == pytest.approx(1, abs=1e-4)


def test_what_a_row_is_padded_with_does_not_count() -> None:
    rows = drawn(3)
    padded = [torch.cat([row, torch.full((31,), 50.0, dtype=torch.bfloat16)]) for row in rows]
    ask, scorer = wanted(4, 8), ScoreRows([1], VOCABULARY)
    for plain, same in zip(scorer.score(rows, [ask] * 3), scorer.score(padded, [ask] * 3), strict=True):
        assert same.tokens == pytest.approx(plain.tokens, abs=1e-6)
        assert same.end == pytest.approx(plain.end, abs=1e-6)


def test_without_tokens_that_end_an_answer_it_never_ends() -> None:
    scores = ScoreRows([], VOCABULARY).score(drawn(2), [wanted(1)] * 2)
    assert [one.end for one in scores] == [-np.inf, -np.inf]


def test_large_scores_do_not_overflow() -> None:
    row = torch.full((VOCABULARY,), -3e4, dtype=torch.bfloat16)
    row[3] = 3e4
    scores = ScoreRows([3], VOCABULARY).score([row], [wanted(3, 4)])[0]
    assert scores.tokens[0] == pytest.approx(0, abs=1e-6)
    assert scores.tokens[1] < -5e4
    assert scores.end == pytest.approx(0, abs=1e-6)


def test_a_scorer_says_what_it_reads_and_closes_twice() -> None:
    scorer = ScoreRows([1], VOCABULARY)
    assert not scorer.hidden
    assert "16-bit" in scorer.path
    scorer.close()
    scorer.close()
