"""The images through both classifiers: the same ones, in turns, with their time."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fastinfer.classify import Classification, Classifier
from fastinfer.comparing.collection import Item
from fastinfer.comparing.results import Answer
from fastinfer.errors import EngineDeadError

__all__ = ["Pass", "Turn", "alternate", "through"]


@dataclass(frozen=True, slots=True)
class Pass:
    """What one classifier made of some images.

    Attributes:
        answers: one for each image.
        shares: for each image its probabilities in the order of the labels; empty without labels, and where it failed.
        seconds: how long all of it took.
    """

    answers: list[Answer]
    shares: list[array[float]]
    seconds: float


@dataclass(frozen=True, slots=True)
class Turn:
    """Some images, and what both classifiers made of them.

    Attributes:
        items: the images.
        a, b: what each made of them.
        together: both were open, and had them one right after the other.
    """

    items: Sequence[Item]
    a: Pass
    b: Pass
    together: bool = True


def alternate(
    a: Classifier, b: Classifier, items: Iterable[Item], labels: tuple[str, ...] | None, size: int
) -> Iterator[Turn]:
    """Both classifiers in turns over ``size`` images at a time, which are all that is held in memory.

    Who begins changes with every turn: the second finds the files in the operating system's cache.

    Raises:
        EngineDeadError: an engine has died.
    """
    source = iter(items)
    a_begins = True
    while part := list(islice(source, size)):
        if a_begins:
            of_a = through(a, part, labels)
            yield Turn(part, of_a, through(b, part, labels))
        else:
            of_b = through(b, part, labels)
            yield Turn(part, through(a, part, labels), of_b)
        a_begins = not a_begins


def through(classifier: Classifier, items: Sequence[Item], labels: tuple[str, ...] | None) -> Pass:
    """Some images through a classifier; an image that fails is an answer with an error.

    Raises:
        EngineDeadError: the engine has died, or the classifier is closed.
    """
    answers: list[Answer] = []
    shares: list[array[float]] = []
    begun = time.perf_counter()
    for result in classifier.classify_many([item.source for item in items], labels=labels, errors="return"):
        if isinstance(result.error, EngineDeadError):
            raise result.error
        answers.append(_answer(result))
        shares.append(array("d", (result.probabilities[label] for label in labels or () if result.ok)))
    return Pass(answers, shares, time.perf_counter() - begun)


def _answer(result: Classification) -> Answer:
    # The error as text: the exception itself would keep the frames alive that it came through, and their pixels.
    error = None if result.error is None else f"{type(result.error).__name__}: {result.error}"
    return Answer(result.label, result.confidence, result.label_mass, error)
