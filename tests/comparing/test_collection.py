from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastinfer.comparing.collection import collect
from fastinfer.errors import FastInferError, ImageDecodeError, LabelError


def found(collection: Any) -> list[tuple[str, str | None]]:
    return [(item.name, item.truth) for item in collection]


def test_subfolders_are_the_labels_and_the_truth(tree: Callable[..., Path]) -> None:
    collection = collect(tree("dog/2.PNG", "cat/deep/1.jpg", "cat/.hidden.png", "dog/notes.txt", ".cache/x.png"))
    assert collection.labels == ("cat", "dog")
    assert (collection.count, collection.repeatable) == (2, True)
    assert found(collection) == [("cat/deep/1.jpg", "cat"), ("dog/2.PNG", "dog")]
    assert [Path(item.path or "").name for item in collection] == ["1.jpg", "2.PNG"]


def test_a_flat_folder_has_neither_labels_nor_truth(tree: Callable[..., Path]) -> None:
    collection = collect(str(tree("b.webp", "a.tif")))
    assert collection.labels is None
    assert found(collection) == [("a.tif", None), ("b.webp", None)]


def test_images_beside_the_subfolders_have_no_truth(tree: Callable[..., Path]) -> None:
    assert found(collect(tree("cat/1.png", "dog/2.png", "3.png"))) == [
        ("3.png", None),
        ("cat/1.png", "cat"),
        ("dog/2.png", "dog"),
    ]


def test_given_labels_may_be_more_than_the_subfolders(tree: Callable[..., Path]) -> None:
    collection = collect(tree("cat/1.png", "dog/2.png"), labels=["dog", "cat", "fish"])
    assert collection.labels == ("dog", "cat", "fish")
    assert [truth for _, truth in found(collection)] == ["cat", "dog"]


def test_subfolders_that_are_no_labels_say_nothing(tree: Callable[..., Path]) -> None:
    collection = collect(tree("monday/1.png", "tuesday/2.png"), labels=["cat", "dog"])
    assert [truth for _, truth in found(collection)] == [None, None]


def test_a_truth_is_spelt_as_the_label_is() -> None:
    collection = collect(["1.png", "2.png"], labels=["caf\u00e9", "red  car"], truth=["cafe\u0301", "red car"])
    assert [truth for _, truth in found(collection)] == ["caf\u00e9", "red  car"]


def test_a_list_takes_its_labels_from_the_truth(pictures: list[Image.Image]) -> None:
    collection = collect([pictures[0], "x/photo.png", b"123"], truth=["dog", None, "cat"])
    assert collection.labels == ("cat", "dog")
    assert found(collection) == [
        ("0: <PIL image 96x96 RGB>", "dog"),
        ("1: photo.png", None),
        ("2: <bytes, 3 bytes>", "cat"),
    ]
    assert [item.path for item in collection] == [None, "x/photo.png", None]


def test_a_generator_is_read_once_and_as_needed() -> None:
    taken: list[int] = []

    def images() -> Iterator[str]:
        for number in range(1000):
            taken.append(number)
            yield f"{number}.png"

    collection = collect(images())
    assert (collection.count, collection.repeatable, taken) == (None, False, [])
    assert next(iter(collection)).name == "0: 0.png"
    assert taken == [0]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"images": "missing"}, ImageDecodeError, "There is no folder missing. Pass a folder of images"),
        ({"images": 7}, ImageDecodeError, "of type int"),
        ({"images": b"\x89PNG"}, ImageDecodeError, "of type bytes"),
        ({"images": ["a", "b"], "truth": ["cat"]}, LabelError, "truth has 1 labels for 2 images"),
        ({"images": ["a"], "truth": "cat"}, LabelError, "truth is of type str"),
        ({"images": ["a"], "truth": 5}, LabelError, "truth is of type int"),
        ({"images": ["a"], "truth": [["cat"]]}, LabelError, "of type list, not a string"),
        ({"images": ["a"], "truth": ["cat"]}, LabelError, "one label alone, 'cat'"),
        ({"images": ["a"], "labels": ["cat"]}, LabelError, "one label alone, 'cat'"),
        ({"images": ["a"], "labels": ["x", "y"], "truth": ["cat"]}, LabelError, "none of the labels: 'cat'"),
        ({"images": ["a"], "labels": []}, LabelError, "empty"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(
    arguments: dict[str, Any], error: type[FastInferError], said: str
) -> None:
    with pytest.raises(error) as caught:
        collect(**arguments)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_folder_that_cannot_be_compared_is_an_error(tree: Callable[..., Path]) -> None:
    with pytest.raises(ImageDecodeError, match="no images in the folder"):
        collect(tree("notes.txt"))
    folder = tree("cat/1.png")
    with pytest.raises(LabelError, match="one label alone, 'cat'"):
        collect(folder)
    tree("dog/1.png")
    with pytest.raises(LabelError, match="none of the labels: 'dog'"):
        collect(folder, labels=["cat", "bird"])
    with pytest.raises(LabelError, match="truth is for a list of images"):
        collect(folder, truth=["cat", "dog"])


@pytest.mark.parametrize("count", [1, 3])
def test_a_generator_of_another_length_than_the_truth_is_found_out(count: int) -> None:
    collection = collect((f"{n}.png" for n in range(count)), truth=["cat", "dog"])
    with pytest.raises(LabelError, match=r"labels in truth|truth has 2 labels for 1 images"):
        list(collection)
