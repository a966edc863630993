from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.comparing.statistics import cohen_kappa, mcnemar_p, paired_difference, share

COUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)).filter(any)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, the method without continuity correction.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(count: int, total: int, low: float, high: float) -> None:
    found = share(count, total)
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilsons_interval_holds_the_share_and_mirrors(count: int, total: int) -> None:
    count = min(count, total)
    found, mirrored = share(count, total), share(total - count, total)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))


@pytest.mark.parametrize(
    ("only_a", "only_b", "total", "low", "high", "p"),
    # The examples of Fagerland, Lydersen and Laake (2014), as the R package contingencytables computes them:
    # Bentur et al. (2009) and Cavo et al. (2012).
    [(7, 1, 21, -0.5172, -0.0260, 0.070312), (16, 6, 161, -0.1240, -0.0054, 0.052479)],
)
def test_tangos_interval_and_mcnemars_p_are_the_published_ones(
    only_a: int, only_b: int, total: int, low: float, high: float, p: float
) -> None:
    found = paired_difference(only_a, only_b, total)
    assert found.value == (only_b - only_a) / total
    assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert found.p == pytest.approx(p, abs=5e-7)


@given(COUNTS)
def test_the_paired_interval_holds_the_difference_and_mirrors(counts: tuple[int, int, int]) -> None:
    only_a, only_b, neither = counts
    total = only_a + only_b + neither
    found, mirrored = paired_difference(only_a, only_b, total), paired_difference(only_b, only_a, total)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (-mirrored.high, -mirrored.low) == (found.low, found.high)


@pytest.mark.parametrize("total", [1, 20, 1000])
def test_without_discordant_items_the_interval_still_has_its_width(total: int) -> None:
    # Where nothing is discordant the score statistic is the same as for a share of 0: z^2 / (n + z^2).
    square = 1.959963984540054**2
    found = paired_difference(0, 0, total)
    assert (found.low, found.high) == pytest.approx((-square / (total + square), square / (total + square)))
    assert found.p == 1.0


@pytest.mark.parametrize(("share_a", "share_b"), [(0.1, 0.2), (0.05, 0.05), (0.02, 0.15)])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(share_a: float, share_b: float) -> None:
    total, covered = 30, 0.0
    for only_a in range(total + 1):
        for only_b in range(total + 1 - only_a):
            both = total - only_a - only_b
            ways = math.comb(total, only_a) * math.comb(total - only_a, only_b)
            weight = ways * share_a**only_a * share_b**only_b * (1 - share_a - share_b) ** both
            if weight > 1e-6:
                found = paired_difference(only_a, only_b, total)
                covered += weight * (found.low <= share_b - share_a <= found.high)
    assert 0.93 < covered < 0.99


def test_mcnemars_p_is_that_of_a_binomial_test() -> None:
    # From scipy.stats.binomtest(a, a + b).pvalue, scipy 1.17.1.
    for only_a, only_b, p in [(1, 7, 0.0703125), (5, 5, 1.0), (0, 12, 0.00048828125), (3000, 3200, 0.01148825377)]:
        assert mcnemar_p(only_a, only_b) == pytest.approx(p, rel=1e-9)
        assert mcnemar_p(only_b, only_a) == mcnemar_p(only_a, only_b)
    assert mcnemar_p(0, 100_000) == 0.0


@pytest.mark.slow
def test_mcnemars_p_agrees_with_scipy_where_it_is_there() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy comes with the extra bench")
    for only_a in range(12):
        for only_b in range(1, 12):
            assert mcnemar_p(only_a, only_b) == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)


def test_kappa_is_agreement_beyond_chance() -> None:
    # 20 times both yes, 5 and 10 times one of them, 15 times both no: (0.7 - 0.5) / (1 - 0.5).
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([("a", "b"), ("b", "a")]) == pytest.approx(-1.0)
    assert cohen_kappa([("a", "a"), ("b", "b"), ("c", "c")]) == 1.0


def test_kappa_is_not_defined_without_two_labels() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([("a", "a")] * 3) is None


@pytest.mark.slow
def test_kappa_agrees_with_scikit_learn_where_it_is_there() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with the extra bench")
    first, second = list("aabbccabca"), list("abbbcaabcc")
    assert cohen_kappa(list(zip(first, second, strict=True))) == pytest.approx(metrics.cohen_kappa_score(first, second))


def test_shares_and_differences_read_as_sentences() -> None:
    assert str(share(3, 4)) == "75.0% (30.1% to 95.4%), 3 of 4"
    assert str(paired_difference(7, 1, 21)) == "-28.6 points (-51.7 to -2.6), exact p 0.0703"
