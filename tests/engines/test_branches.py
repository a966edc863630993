"""A label trie walked likeliest branch first: exact where nothing is left out, and never off by more than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fastinfer.engines.branches import BranchWalk
from fastinfer.engines.scoring import LabelTrie, normalise

VOCABULARY, ENDS = 9, (0, 1)
label_sets = st.lists(
    st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=5).map(tuple), min_size=1, max_size=25, unique=True
)


def log_probabilities(path, spread):
    scores = np.random.default_rng([3, *path]).normal(0, spread, VOCABULARY)
    return scores - np.log(np.exp(scores).sum())


def walk(labels, tolerance, spread=3.0):
    """The scores and how many nodes were evaluated for them."""
    state = BranchWalk(LabelTrie(labels), tolerance)
    waiting, count = [state.root], 0
    while waiting:
        for branch in waiting:
            row = log_probabilities(branch.path, spread)
            ends = float(np.log(np.exp(row[list(ENDS)]).sum()))
            state.add(branch, row[list(branch.node.children)], ends)
            count += 1
        waiting = state.following()
    return state.scores(), count


def by_definition(labels, spread=3.0):
    scores = []
    for label in labels:
        total = sum(log_probabilities(label[:at], spread)[token] for at, token in enumerate(label))
        if any(other != label and other[: len(label)] == label for other in labels):
            total += np.log(np.exp(log_probabilities(label, spread)[list(ENDS)]).sum())
        scores.append(total)
    return np.array(scores)


@given(label_sets)
def test_without_tolerance_every_label_is_the_product_of_its_tokens(labels):
    scores, count = walk(labels, 0.0)
    np.testing.assert_allclose(scores, by_definition(labels), rtol=1e-9)
    inner = {label[:at] for label in labels for at in range(len(label))}
    assert count == len(inner)


@given(label_sets, st.sampled_from([1e-6, 1e-4, 1e-2, 0.2]), st.sampled_from([1.0, 3.0, 10.0]))
@settings(max_examples=examples(200))
def test_no_probability_is_off_by_more_than_the_tolerance(labels, tolerance, spread):
    scores, _ = walk(labels, tolerance, spread)
    shares, mass = normalise(scores)
    exact, full_mass = normalise(by_definition(labels, spread))
    assert np.abs(shares - exact).max() <= tolerance * 1.001 + 1e-12
    # A path's whole probability is counted where it was not followed: the share can only come out larger.
    assert mass >= full_mass - 1e-12
    assert mass <= full_mass + tolerance * mass + 1e-12


def test_improbable_branches_are_not_evaluated():
    labels = [(a, b, c) for a in range(2, 9) for b in range(2, 9) for c in range(2, 9)]
    _, all_of_them = walk(labels, 0.0, 10.0)
    _, few = walk(labels, 1e-4, 10.0)
    assert all_of_them == 57
    assert few < 20


def test_labels_of_one_token_need_the_prompt_alone():
    scores, count = walk([(2,), (3,), (4,)], 1e-4)
    assert count == 1
    np.testing.assert_allclose(scores, log_probabilities((), 3.0)[[2, 3, 4]])


def test_labels_below_a_branch_left_out_share_its_probability():
    state = BranchWalk(LabelTrie([(2,), (3, 4), (3, 5)]), 0.01)
    state.add(state.root, np.log(np.array([0.9, 0.001])), -5.0)
    assert state.following() == []
    np.testing.assert_allclose(np.exp(state.scores()), [0.9, 0.0005, 0.0005])


def test_a_label_set_without_any_probability_ends_too():
    state = BranchWalk(LabelTrie([(2, 3), (4, 3)]), 1e-4)
    state.add(state.root, np.array([-np.inf, -np.inf]), -np.inf)
    assert state.following() == []
    assert np.isneginf(state.scores()).all()


@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_branches_come_likeliest_first(tolerance):
    state = BranchWalk(LabelTrie([(2, 2), (3, 2), (4, 2)]), tolerance)
    state.add(state.root, np.log(np.array([0.1, 0.5, 0.3])), -9.0)
    assert [branch.path for branch in state.following()] == [(3,), (4,), (2,)]
