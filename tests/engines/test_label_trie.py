"""The trie of a label set, whatever the tokens: exact, disjoint, and every node that is needed evaluated once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinfer.engines.scoring import LabelTrie, log_sum_exp, normalise

VOCABULARY = 7
ENDS = (0, 1)  # end-of-answer tokens; labels are made of the others

label_sets = st.lists(
    st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=6).map(tuple), min_size=1, max_size=25, unique=True
)


def next_scores(path):
    """Next-token scores after a path: a made-up model that has an opinion on every path."""
    return np.random.default_rng([17, *path]).normal(0, 3, VOCABULARY).astype(np.float32)


def probabilities(path):
    scores = next_scores(path).astype(np.float64)
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def by_definition(labels):
    """Each label by itself: the product of its tokens' probabilities, and of an end token's for a proper prefix."""
    result = []
    for label in labels:
        p = 1.0
        for at, token in enumerate(label):
            p *= probabilities(label[:at])[token]
        if any(other != label and other[: len(label)] == label for other in labels):
            p *= probabilities(label)[list(ENDS)].sum()
        result.append(p)
    return result


def spans_of(trie):
    """Every span with the path that leads to it."""
    waiting = [((), span) for span in trie.spans]
    while waiting:
        path, span = waiting.pop()
        yield path, span
        waiting += [(path + span.tokens, branch) for branch in span.branches]


def nodes_of(trie):
    waiting = [trie.root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += node.children.values()


def through_the_trie(trie):
    """Score the labels the way an engine does: the root, then span by span."""
    paths, ends = trie.start(), {}

    def extend(path, node):
        row = next_scores(path)
        trie.extend(paths, ends, node, row, log_sum_exp(row), log_sum_exp(row[list(ENDS)]))

    extend((), trie.root)
    waiting = [((), span) for span in trie.spans]
    while waiting:
        path, span = waiting.pop(0)
        for at, node in enumerate(span.nodes, 1):
            extend(path + span.tokens[:at], node)
        waiting += [(path + span.tokens, branch) for branch in span.branches]
    return trie.label_scores(paths, ends)


@settings(deadline=None)
@given(label_sets)
def test_the_trie_gives_each_label_the_probability_it_has_by_itself(labels):
    assert np.exp(through_the_trie(LabelTrie(labels))) == pytest.approx(by_definition(labels), rel=1e-5)


@settings(deadline=None)
@given(label_sets)
def test_labels_exclude_each_other_so_their_probabilities_sum_to_at_most_one(labels):
    scores = through_the_trie(LabelTrie(labels))
    assert np.exp(scores).sum() <= 1 + 1e-6
    shares, mass = normalise(scores)
    assert shares.sum() == pytest.approx(1)
    assert mass == pytest.approx(np.exp(scores).sum())


@settings(deadline=None)
@given(label_sets, st.randoms(use_true_random=False))
def test_the_order_of_the_labels_changes_nothing(labels, random):
    shuffled = random.sample(labels, len(labels))
    one = dict(zip(labels, through_the_trie(LabelTrie(labels)).tolist(), strict=True))
    other = dict(zip(shuffled, through_the_trie(LabelTrie(shuffled)).tolist(), strict=True))
    assert one == pytest.approx(other)


@given(label_sets)
def test_the_spans_evaluate_each_inner_node_exactly_once_and_no_leaf(labels):
    trie = LabelTrie(labels)
    evaluated = [node.index for _, span in spans_of(trie) for node in span.nodes]
    inner = [node.index for node in nodes_of(trie) if node.children and node is not trie.root]
    assert sorted(evaluated) == sorted(inner)


@given(label_sets)
def test_the_tokens_of_a_span_lead_to_its_nodes(labels):
    trie = LabelTrie(labels)
    for path, span in spans_of(trie):
        node = trie.root
        for token in path:
            node = node.children[token]
        for token, expected in zip(span.tokens, span.nodes, strict=True):
            node = node.children[token]
            assert node is expected


@given(label_sets)
def test_a_span_branches_only_where_several_runs_follow(labels):
    for _, span in spans_of(LabelTrie(labels)):
        assert len(span.branches) != 1
        assert span.tokens


@given(label_sets)
def test_the_sizes_of_the_trie_are_those_of_its_spans(labels):
    trie = LabelTrie(labels)
    spans = [span for _, span in spans_of(trie)]

    def levels(span):
        return 1 + max(map(levels, span.branches), default=0)

    prefixes = {label[:n] for label in labels for n in range(len(label) + 1)}
    assert trie.size == len(list(nodes_of(trie))) == len(prefixes)
    assert trie.rows == sum(len(span.tokens) for span in spans)
    assert trie.longest == max((len(span.tokens) for span in spans), default=0)
    assert trie.depth == max(map(levels, trie.spans), default=0)


def test_labels_of_one_token_need_no_evaluation_beyond_the_prompt():
    trie = LabelTrie([(2,), (3,), (4,)])
    assert (trie.spans, trie.rows, trie.depth, trie.longest) == ((), 0, 0, 0)


def test_a_chain_of_prefixes_is_one_run():
    trie = LabelTrie([(2,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
    assert [span.tokens for span in trie.spans] == [(2, 3, 4)]
    assert trie.depth == 1


def test_a_shared_first_token_is_evaluated_once():
    assert LabelTrie([(2, 3), (2, 4), (2, 5)]).rows == 1


@pytest.mark.parametrize("labels", [[()], [(2,), ()], [(2, 3), (2, 3)]])
def test_labels_without_tokens_or_with_the_same_tokens_are_refused(labels):
    with pytest.raises(ValueError, match="no tokens or the same tokens"):
        LabelTrie(labels)
