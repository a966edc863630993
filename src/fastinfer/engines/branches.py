"""One image's way down a label trie, the likeliest branches first.

Where every node costs a request of its own, a node whose path is improbable need not be evaluated: all labels below it
together have at most the path's probability. The walk ends when the paths not yet taken hold no more than a given share
of the label set's probability, so no label's probability is off by more than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastinfer.engines.scoring import LabelTrie, Node

__all__ = ["Branch", "BranchWalk"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Branch:
    """A node to evaluate.

    Attributes:
        node: the node; it has children.
        path: the tokens that lead to it.
    """

    node: Node
    path: tuple[int, ...]


class BranchWalk:
    """What is known of a label set's probabilities for one image.

    Args:
        trie: the label set's tokens.
        tolerance: the most that the probability of a label, among the labels, may be off, 0 to 1; 0 evaluates every
            node.
    """

    def __init__(self, trie: LabelTrie, tolerance: float) -> None:
        self._trie, self._tolerance = trie, tolerance
        self._paths = trie.start()
        self._ends: dict[int, float] = {}
        self._open: list[Branch] = []
        self._known = 0.0

    @property
    def root(self) -> Branch:
        """The branch to begin with."""
        return Branch(self._trie.root, ())

    def add(self, branch: Branch, children: Doubles, end: float) -> None:
        """Take in what was computed for a branch.

        Args:
            branch: one that :attr:`root` or :meth:`following` gave.
            children: log-probability of each child's token after the path, in the order of ``branch.node.children``.
            end: log-probability that the answer ends after the path.
        """
        node = branch.node
        here = float(self._paths[node.index])
        for (token, child), step in zip(node.children.items(), children.tolist(), strict=True):
            score = here + step
            self._paths[child.index] = score
            if child.children:
                self._open.append(Branch(child, (*branch.path, token)))
            else:
                self._known += math.exp(score)
        if node.label >= 0:
            self._ends[node.label] = here + end
            self._known += math.exp(here + end)

    def following(self) -> list[Branch]:
        """The branches to evaluate next, likeliest first; empty when the rest does not matter.

        All branches that were given before must have been added.
        """
        ranked = sorted(self._open, key=self._probability, reverse=True)
        # What is left out is summed from the small end, so that adding it up loses nothing.
        allowed = self._tolerance * (self._known + math.fsum(map(self._probability, ranked)))
        left, skipped = len(ranked), 0.0
        while left and skipped + (p := self._probability(ranked[left - 1])) <= allowed:
            skipped += p
            left -= 1
        if self._tolerance == 0.0:
            left = len(ranked)
        self._open = ranked[left:]
        return ranked[:left]

    def scores(self) -> Doubles:
        """Log-probability of each label over the full vocabulary, (labels,) float64.

        Labels below a branch that was not evaluated share its probability evenly, so that the sum stays right.
        """
        scores = self._trie.label_scores(self._paths, self._ends)
        for branch in self._open:
            below = _labels_below(branch.node)
            scores[below] = self._paths[branch.node.index] - math.log(len(below))
        return scores

    def _probability(self, branch: Branch) -> float:
        return math.exp(self._paths[branch.node.index])


def _labels_below(node: Node) -> list[int]:
    found, waiting = [], [node]
    while waiting:
        here = waiting.pop()
        if here.label >= 0:
            found.append(here.label)
        waiting += here.children.values()
    return found
