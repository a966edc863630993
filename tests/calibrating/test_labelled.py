"""Labelled images: pairs, or a folder with a subfolder for each label; checked before any image is classified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastinfer.calibrating.labelled import LabelledImages
from fastinfer.classify.labels import check_labels
from fastinfer.errors import FastInferError, ImageDecodeError, LabelError, PresetError

LABELS = check_labels(["caf\u00e9", "red  car", "dog"])


def read(labelled: Any, labels: Any = LABELS, coverage: float = 0.5, errors: str = "raise") -> list[tuple[Any, int]]:
    given = LabelledImages(labelled, labels, coverage, errors)
    return list(zip(list(given.images), given._truth, strict=True))


def test_pairs_get_the_place_of_their_label_however_it_is_spelt() -> None:
    pairs = [("1.png", "dog"), ["2.png", "cafe\u0301"], (b"3", " red car ")]
    assert read(pairs) == [("1.png", 2), ("2.png", 0), (b"3", 1)]
    assert read(iter(pairs)) == read(tuple(pairs)) == read(pairs)


def test_subfolders_are_the_labels(tree: Callable[..., Path]) -> None:
    folder = tree("dog/a.png", "dog/deep/b.jpg", "red car/c.png", "dog/.hidden.png", "dog/notes.txt")
    found = [(Path(image).relative_to(folder).as_posix(), place) for image, place in read(folder)]
    assert found == [("dog/a.png", 2), ("dog/deep/b.jpg", 2), ("red car/c.png", 1)]
    assert read(str(folder)) == read(folder)


def test_a_generator_is_read_as_needed() -> None:
    taken = []

    def pairs() -> Iterator[tuple[str, str]]:
        for number in range(100):
            taken.append(number)
            yield f"{number}.png", "dog"

    given = LabelledImages(pairs(), LABELS, 0.9, "raise")
    assert taken == []
    assert next(iter(given.images)) == "0.png"
    assert taken == [0]


@pytest.mark.parametrize(
    ("labelled", "labels", "coverage", "error", "said"),
    [
        ([("a", "dog")], None, 0.5, LabelError, "has no labels"),
        ([("a", "dog")], check_labels(["dog"]), 0.5, LabelError, "one label alone, 'dog'"),
        ([("a", "dog"), ("b", "cat")], LABELS, 0.5, LabelError, "Item 1 of the labelled images has the label 'cat'"),
        ([("a", "dog")], LABELS, 0.9, LabelError, "needs at least 9 labelled images; there are 1"),
        ([], LABELS, 0.5, LabelError, "there are 0"),
        ([("a", "dog")], LABELS, 2, PresetError, "not legal"),
        ([("a", 7)], LABELS, 0.5, LabelError, "a label of type int"),
        ([("a", "")], LABELS, 0.5, LabelError, "empty"),
        (["ab"], LABELS, 0.5, LabelError, "Item 0 of the labelled images is not an"),
        ([("a", "dog", 1)], LABELS, 0.5, LabelError, "not an"),
        ({"a": "dog"}, LABELS, 0.5, LabelError, "not an"),
        (7, LABELS, 0.5, LabelError, "of type int"),
        (b"\x89PNG", LABELS, 0.5, LabelError, "of type bytes"),
        ("missing", LABELS, 0.5, ImageDecodeError, "There is no folder missing"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(
    labelled: Any, labels: Any, coverage: float, error: type[FastInferError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        read(labelled, labels, coverage)
    assert caught.value.hint


def test_errors_is_one_of_two_words() -> None:
    assert LabelledImages([("a", "dog")], LABELS, 0.5, "skip").errors == "return"
    with pytest.raises(PresetError, match="errors is 'return'"):
        read([("a", "dog")], errors="return")


def test_an_image_in_no_labels_subfolder_is_an_error(tree: Callable[..., Path]) -> None:
    folder = tree("monday/a.png", "tuesday/b.png")
    with pytest.raises(LabelError, match=r"monday/a\.png in .* is in no subfolder that is one of the labels"):
        read(folder)
    folder = tree("dog/a.png")
    with pytest.raises(LabelError, match="none of the labels: 'monday', 'tuesday'"):
        read(folder)
