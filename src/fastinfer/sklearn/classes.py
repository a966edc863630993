"""The classes that an estimator tells apart, and the words that the model knows them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastinfer.classify.labels import check_labels
from fastinfer.errors import LabelError

__all__ = ["Classes", "Labels", "find_classes"]

#: Classes that are their own words, or each class with its word.
Labels = Iterable[str] | Mapping[Any, str]


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes in ascending order, as scikit-learn has them.

    Attributes:
        values: array (n_classes,) of what ``y`` holds.
        words: what the model is asked about, in the same order.
        targets: array (n_samples,) of int: the place of each item of ``y`` in ``values``; empty without a ``y``.
    """

    values: np.ndarray[Any, Any]
    words: tuple[str, ...]
    targets: np.ndarray[Any, Any]


def find_classes(labels: Labels | None, y: Iterable[Any] | None) -> Classes:
    """The classes of a fit.

    Args:
        labels: the classes, or a mapping from each to its words; None takes the different values of ``y``.
        y: the class of each sample; None where ``labels`` says all.

    Raises:
        LabelError: there is neither; ``y`` has a class that ``labels`` lacks, or is not one-dimensional; classes are no
            strings and have no words; or the words cannot be scored.
    """
    if labels is None and y is None:
        raise LabelError("There are no classes to choose from.", hint="Give labels to the estimator, or y to fit.")
    given = [] if y is None else _listed(y)
    words = _words_in(given) if labels is None else _words_for(labels, given)
    check_labels(words.values())
    try:
        classes = sorted(words)
    except TypeError as error:
        raise LabelError("The classes are of types that have no order.", hint="Use one type for all.") from error
    places = {name: place for place, name in enumerate(classes)}
    strange = [value for value in given if value not in places]
    if strange:
        raise LabelError(
            f"y holds {strange[0]!r}, which is not among the labels {', '.join(map(repr, classes[:5]))}"
            + (f" and {len(classes) - 5} more." if len(classes) > 5 else "."),
            hint="Add it to labels, or leave its images out. Where y has numbers, give the words of each: "
            'labels={0: "cat", 1: "dog"}.',
        )
    targets = np.array([places[value] for value in given], dtype=np.intp)
    return Classes(np.asarray(classes), tuple(words[name] for name in classes), targets)


def _listed(y: Iterable[Any]) -> list[Any]:
    array = np.asarray(y)
    if array.ndim != 1:
        raise LabelError(
            f"y has the shape {array.shape}; it must hold one class for each image.", hint="Use y.ravel()."
        )
    values: list[Any] = array.tolist()  # Python's own types: numpy's print as np.int64(3) in messages
    return values


def _words_in(given: list[Any]) -> dict[Any, str]:
    """Classes that are known from ``y`` alone."""
    for value in given:
        if not isinstance(value, str):
            raise LabelError(
                f"y holds {value!r}, a {type(value).__name__}: the model knows classes by words.",
                hint='Give the words: labels={0: "cat", 1: "dog"}.',
            )
    return {name: name for name in given}


def _words_for(labels: Labels, given: list[Any]) -> dict[Any, str]:
    """Classes that ``labels`` names; ``y`` may number them."""
    if isinstance(labels, Mapping):
        return dict(labels)
    names = [str(name) for name in check_labels(labels).names]
    numbers = {value for value in given if type(value) is int}
    # Several of scikit-learn's tools number the classes that they find in y, in ascending order, before they call fit.
    # Only with all of them there, and labels in that order, can a number mean nothing else.
    if numbers == set(range(len(names))) and names == sorted(names):
        return dict(enumerate(names))
    return {name: name for name in names}
