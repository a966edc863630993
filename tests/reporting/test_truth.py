from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastinfer
from fastinfer import Classification
from fastinfer.errors import FastInferError, LabelError


@pytest.fixture
def named(classified: Callable[..., Classification]) -> Callable[..., list[Classification]]:
    """Results of these names, each a cat."""
    return lambda *names: [classified({"cat": 0.9, "dog": 0.1}, name) for name in names]


def right(results: Any, truth: Any, **options: Any) -> tuple[int, int]:
    accuracy = fastinfer.report(results, truth, **options).accuracy
    assert accuracy is not None
    return accuracy.count, accuracy.total


def test_a_dict_names_results(named: Any) -> None:
    made = fastinfer.report(named("a/1.png", "a/2.png", "3.png"), {"a/1.png": "cat", "a/2.png": "dog", "9.png": "cat"})
    assert made.accuracy is not None
    assert (made.accuracy.count, made.accuracy.total) == (1, 2)
    assert "Names in truth that no result has: 1; the first is 9.png." in made.remarks


def test_names_that_end_alike_fit_if_there_is_one_such(named: Any) -> None:
    assert right(named("1.png", "b/2.png"), {"photos/a/1.png": "cat", "2.png": "dog"}) == (1, 2)
    with pytest.raises(LabelError, match="None of the results has a truth"):
        fastinfer.report(named("b/1.png"), {"a/1.png": "cat"})
    with pytest.raises(LabelError, match="None of the results has a truth"):
        fastinfer.report(named("1.png"), {"a/1.png": "cat", "b/1.png": "dog"})
    with pytest.raises(LabelError, match=r"The truth of 1\.png fits several results"):
        fastinfer.report(named("a/1.png", "b/1.png"), {"1.png": "cat"})


def test_the_images_paths_tell_results_of_one_name_apart(named: Any) -> None:
    results, paths = named("1.png", "1.png"), ["in/cat/1.png", "in/dog/1.png"]
    assert right(results, {"cat/1.png": "cat", "dog/1.png": "dog"}, images=paths) == (1, 2)
    assert right(results, "folders", images=paths) == (1, 2)


def test_a_name_that_occurs_again_gets_the_same_truth_and_it_is_said(named: Any) -> None:
    made = fastinfer.report(named("1.png", "1.png"), {"1.png": "cat"})
    assert made.judged == 2
    assert "Results that are called like one before them, and got the same truth: 1." in made.remarks


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("truth.csv", "path,label\ncat/1.png,cat\n2.png,\n"),
        ("truth.csv", "\ufefflabel,source,remark\r\ncat,cat/1.png,\r\n"),
        ("truth.jsonl", '{"path": "cat/1.png", "label": "cat"}\n\n{"path": "2.png", "label": null}\n'),
    ],
)
def test_a_file_has_paths_and_labels(named: Any, tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, "utf-8")
    assert right(named("cat/1.png", "2.png"), file) == (1, 1)
    assert right(named("cat/1.png", "2.png"), str(file)) == (1, 1)


def test_folders_are_the_first_of_a_results_path_as_in_a_comparison(named: Any, tmp_path: Path) -> None:
    assert right(named("cat/deep/1.png", "dog/2.png", "3.png"), "folders") == (1, 2)
    (tmp_path / "in").mkdir()
    below = named(f"{tmp_path}/in/cat/deep/1.png", f"{tmp_path}/in/dog/2.png")
    assert right(below, "folders", images=tmp_path / "in") == (1, 2)


def test_of_other_paths_it_is_the_folder_that_the_image_lies_in(named: Any) -> None:
    assert right(named("/photos/cat/1.png", "/photos/dog/2.png"), "folders") == (1, 2)


def test_folders_that_are_no_labels_are_an_error(named: Any) -> None:
    with pytest.raises(LabelError, match=r"No truth is a label .*Truths: 'photos'\. Labels: 'cat', 'dog'"):
        fastinfer.report(named("photos/1.png"), "folders")
    with pytest.raises(LabelError, match="No result is in a folder"):
        fastinfer.report(named("1.png"), "folders")


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        ([3], "Truth 0 is a int, not a string: 3"),
        ([" "], "Truth 0 is empty"),
        ({"1.png": 3}, "The truth of 1.png is a int"),
        ("missing.csv", "missing.csv cannot be read: No such file"),
        ("truth.txt", "its name ends in '.txt'"),
        (b"cat", "truth is a bytes"),
    ],
)
def test_a_truth_that_is_none_is_an_error(named: Any, truth: Any, said: str) -> None:
    with pytest.raises(FastInferError) as caught:
        fastinfer.report(named("1.png"), truth)
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_file_with_other_columns_is_an_error(named: Any, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("image,class\n1.png,cat\n", "utf-8")
    with pytest.raises(LabelError, match="has the columns 'image', 'class', not path and label"):
        fastinfer.report(named("1.png"), tmp_path / "truth.csv")
