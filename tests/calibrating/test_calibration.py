"""A calibration is plain data: it changes its coverage, is saved and read again, and shows what it is."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastinfer
from consoles import on_console
from fastinfer.errors import FastInferError, LabelError, PresetError


def test_another_coverage_needs_no_images(drawn: fastinfer.Calibration, fitted: Any, answers: Any) -> None:
    again = fitted(*answers(1, 200, 10, 3.0), coverage=0.95)
    assert drawn.at(0.95) == again
    assert drawn.at(0.95).at(0.9) == drawn
    assert drawn.at(0.8).threshold < drawn.threshold < drawn.at(0.95).threshold
    with pytest.raises(LabelError, match="needs at least 999"):
        drawn.at(0.999)
    with pytest.raises(PresetError, match="not legal"):
        drawn.at(1)


def test_it_counts_what_it_was_made_of(drawn: fastinfer.Calibration, answers: Any) -> None:
    said, truth = answers(1, 200, 10, 3.0)
    assert drawn.count == 200
    assert drawn.counts == tuple(np.bincount(truth, minlength=10))
    assert drawn.right == (said.argmax(axis=1) == truth).sum()
    assert list(drawn.scores) == sorted(drawn.scores)
    assert drawn.threshold == drawn.scores[180]


def test_no_images_are_an_error(fitted: Any) -> None:
    with pytest.raises(LabelError, match="at least 9 labelled images; there are 0"):
        fitted(np.empty((0, 3)), [])


def test_it_is_the_same_after_a_file_a_dictionary_a_pickle_and_a_copy(
    drawn: fastinfer.Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text("older", "utf-8")
    drawn.save(path)
    assert fastinfer.Calibration.load(str(path)) == drawn
    assert fastinfer.Calibration.from_dict(json.loads(json.dumps(drawn.to_dict()))) == drawn
    assert pickle.loads(pickle.dumps(drawn)) == drawn
    assert copy.deepcopy(drawn) == drawn
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        drawn.temperature = 1.0  # type: ignore[misc]


def test_the_fingerprint_is_that_of_everything_in_it(drawn: fastinfer.Calibration) -> None:
    others = [drawn.at(0.8), dataclasses.replace(drawn, model="other"), dataclasses.replace(drawn, temperature=1.5)]
    assert len({drawn.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert len(drawn.fingerprint) == 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 0.01}, "temperature"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"coverage": 1.0}, "coverage"),
        ({"coverage": 0.9999}, "needs at least 9999"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": ["a"] * 10}, "the same"),
        ({"labels": "ab"}, "labels"),
        ({"counts": [1] * 10}, "counts"),
        ({"counts": [-1] * 10}, "counts"),
        ({"scores": []}, "scores"),
        ({"scores": [float(-n) for n in range(200)]}, "not sorted"),
        ({"scores": [float("inf")] * 200}, "scores"),
        ({"right": 201}, "right"),
        ({"before": {"log_loss": -1.0, "calibration_error": 0.1}}, "before.log_loss"),
        ({"model": "another"}, "were changed"),
        ({"threshold": 0.5}, "were changed"),
        ({"fingerprint": "0" * 16}, "were changed"),
        ({"version": 2}, "version"),
        ({"format": "else"}, "format"),
        ({"extra": 1}, "extra"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_a_file_that_was_changed_is_refused_and_the_value_named(
    drawn: fastinfer.Calibration, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    data = {**drawn.to_dict(), **change}
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(data), "utf-8")
    for read in (lambda: fastinfer.Calibration.load(path), lambda: fastinfer.Calibration.from_dict(data)):
        with pytest.raises(PresetError, match=said) as caught:
            read()
        assert caught.value.hint
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00", b'{"labels": ["a", "b"]}', b"7"])
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    with pytest.raises(PresetError, match=r"foreign\.json is not a calibration"):
        fastinfer.Calibration.load(path)


@pytest.mark.parametrize("data", [None, 7, [], "x"])
def test_a_dictionary_that_is_none_is_refused(data: Any) -> None:
    with pytest.raises(PresetError, match="cannot be read"):
        fastinfer.Calibration.from_dict(data)


def test_a_cut_file_is_refused_at_every_length(drawn: fastinfer.Calibration, tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    drawn.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(PresetError):
            fastinfer.Calibration.load(path)


def test_what_cannot_be_read_or_written_is_an_error(drawn: fastinfer.Calibration, tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, "a\0b"):
        with pytest.raises(PresetError):
            fastinfer.Calibration.load(path)
    for path in (tmp_path / "none" / "c.json", tmp_path, "a\0b", ""):
        with pytest.raises(FastInferError) as caught:
            drawn.save(path)
        assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_text_html_and_rich_say_the_same(drawn: fastinfer.Calibration) -> None:
    for text in (str(drawn), drawn._repr_html_(), on_console(drawn, 200)):
        for said in ("10 labels, 200 images", "90% of images like these", "log loss", drawn.fingerprint):
            assert said in " ".join(text.split())
    assert repr(drawn).startswith("<Calibration of embedded for 10 labels: temperature ")
    assert len(repr(drawn)) < 200


def test_it_says_what_to_be_careful_about(fitted: Any) -> None:
    said = np.log(np.full((20, 3), 0.25))
    said[:, 0] = np.log(0.5)
    calibration = fitted(said, [0] * 20, skipped=3)
    assert "Every image was right" in str(calibration)
    assert "above 21 of 22" in str(calibration)
    assert "left out: 3." in str(calibration)
    # So near 1 that the distance is what tells.
    assert "at least 1 - " in str(fitted(np.tile([0.0, -9.0, -9.0], (20, 1)), [0] * 20))
