"""Exact scoring of a label set: the trie of its tokens, and probabilities from next-token scores.

The probability of a label is the product of its tokens' probabilities along the trie. A label that is a proper
prefix of another one ("apple", "apple pie") also needs the answer to end there, so it is multiplied by the
probability of an end-of-answer token; every other label is decided by its last token. The events are disjoint, so the
probabilities of a label set sum to at most 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["LabelTrie", "Node", "Span", "log_sum_exp", "normalise"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Node:
    """A point in the trie: the tokens so far.

    Attributes:
        index: number of the node; the root is 0.
        label: index of the label that ends here, or -1.
        children: the next nodes by token.
    """

    index: int
    label: int = -1
    children: dict[int, Node] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens to evaluate in one sequence, with the runs that branch off its end.

    Attributes:
        tokens: the tokens of the run, in order.
        nodes: the node after each token; each of them has children, so its next-token scores are needed.
        branches: the runs that follow.
        depth: levels of runs from here on, this one included.
    """

    tokens: tuple[int, ...]
    nodes: tuple[Node, ...]
    branches: tuple[Span, ...]
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        # Stored, as it is asked for with every batch of images.
        object.__setattr__(self, "depth", 1 + max((b.depth for b in self.branches), default=0))


class LabelTrie:
    """The token trie of a label set.

    Args:
        labels: the tokens of each label; none may be empty, and no two may be equal.

    Attributes:
        root: the node before any token.
        spans: the runs of tokens to evaluate after the prompt, so that every node with children has its scores.
        size: number of nodes.
        rows: tokens in all spans, one evaluation each for every image.
        depth: levels of spans.
        longest: tokens in the longest span.
        labels: number of labels.
    """

    def __init__(self, labels: Sequence[Sequence[int]]) -> None:
        self.root = Node(0)
        self.size = 1
        self._ends: list[Node] = []
        for index, tokens in enumerate(labels):
            node = self.root
            for token in tokens:
                following = node.children.get(token)
                if following is None:
                    following = node.children[token] = Node(self.size)
                    self.size += 1
                node = following
            if node is self.root or node.label >= 0:
                raise ValueError(f"label {index} has no tokens or the same tokens as label {node.label}")
            node.label = index
            self._ends.append(node)
        self.spans = _branches(self.root)
        self.rows = sum(_count(s) for s in self.spans)
        self.depth = max((s.depth for s in self.spans), default=0)
        self.longest = max((_longest(s) for s in self.spans), default=0)
        self.labels = len(self._ends)
        self._start: Doubles = np.full(self.size, -np.inf)
        self._start[0] = 0.0

    def tokens(self) -> list[list[int]]:
        """The tokens of each label, of which an equal trie can be made."""
        found: list[list[int]] = [[] for _ in self._ends]
        waiting: list[tuple[Node, list[int]]] = [(self.root, [])]
        while waiting:
            node, path = waiting.pop()
            if node.label >= 0:
                found[node.label] = path
            waiting += [(child, [*path, token]) for token, child in node.children.items()]
        return found

    def start(self) -> Doubles:
        """Log-probabilities of the paths to all nodes, known only for the root yet; a new array."""
        paths: Doubles = self._start.copy()
        return paths

    @staticmethod
    def extend(paths: Doubles, ends: dict[int, float], node: Node, row: Floats, norm: float, end: float) -> None:
        """Carry the path to a node on to its children.

        Args:
            paths: log-probability of the path to each node; changed in place.
            ends: log-probability of labels that end at inner nodes; changed in place.
            node: the node whose scores are given.
            row: next-token scores (logits) after the node, (vocabulary,) float32.
            norm: log of the sum of exp(row) over the vocabulary.
            end: the same over the end-of-answer tokens alone.
        """
        here = paths[node.index]
        for token, child in node.children.items():
            paths[child.index] = here + float(row[token]) - norm
        if node.label >= 0:
            ends[node.label] = here + end - norm

    def label_scores(self, paths: Doubles, ends: dict[int, float]) -> Doubles:
        """Log-probability of each label, (labels,) float64, over the full vocabulary."""
        return np.array([ends.get(i, paths[node.index]) for i, node in enumerate(self._ends)])


def _branches(node: Node) -> tuple[Span, ...]:
    spans = []
    for token, child in node.children.items():
        if not child.children:
            continue
        tokens, nodes = [token], [child]
        while True:
            inner = [(t, c) for t, c in nodes[-1].children.items() if c.children]
            if len(inner) != 1:
                break
            tokens.append(inner[0][0])
            nodes.append(inner[0][1])
        spans.append(Span(tuple(tokens), tuple(nodes), _branches(nodes[-1]) if len(inner) > 1 else ()))
    return tuple(spans)


def _count(span: Span) -> int:
    return len(span.tokens) + sum(_count(b) for b in span.branches)


def _longest(span: Span) -> int:
    return max(len(span.tokens), *(_longest(b) for b in span.branches), 0)


def log_sum_exp(rows: Floats) -> Doubles:
    """Log of the sum of exp over the last axis of (..., vocabulary) float32, as float64."""
    peak = rows.max(axis=-1, keepdims=True)
    total: Doubles = np.exp(rows - peak).sum(axis=-1, dtype=np.float64)
    result: Doubles = np.log(total) + peak[..., 0].astype(np.float64)
    return result


def normalise(scores: Doubles) -> tuple[Doubles, float]:
    """Probabilities over the label set, and the label set's share of all answers.

    Args:
        scores: log-probability of each label over the full vocabulary, (labels,) float64.

    Returns:
        Probabilities that sum to 1, (labels,) float64, and the sum of exp(scores), at most 1.
    """
    peak = scores.max()
    if not np.isfinite(peak):
        return np.full(len(scores), 1.0 / len(scores)), 0.0
    weights = np.exp(scores - peak)
    total = weights.sum()
    return weights / total, min(1.0, float(np.exp(peak) * total))
