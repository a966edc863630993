"""What comes back: plain values that say what was found, how sure it is, what it cost and what ran."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from fastinfer import Classification


@pytest.fixture(scope="module")
def result(shared, pictures):
    return shared.classify(pictures[0])


def test_a_red_circle_is_a_red_circle(shared, shared_open, draw, png):
    picture = draw("circle", "red")
    assert shared.classify(picture).label == "red circle"
    assert "circle" in shared_open.classify(png(picture)).label


def test_top_gives_the_first_few(result):
    assert result.top(2) == list(result.probabilities.items())[:2]
    assert len(result.top(100)) == len(result.probabilities)


def test_the_times_add_up(result):
    times = dataclasses.asdict(result.timings)
    assert all(value >= 0 for value in times.values())
    assert 0 < times["encode_ms"] < 10_000
    assert 0 < times["score_ms"] < 10_000
    assert times["batch_size"] >= 1


def test_prompt_tokens_count_text_and_image(result):
    assert 10 < result.prompt_tokens < 200


def test_provenance_says_what_ran(shared, result):
    assert result.provenance == shared.provenance
    assert result.provenance.engine.startswith("llama.cpp")
    assert result.provenance.device == "CPU"
    assert (result.provenance.model, result.provenance.preset) == ("embedded", "embedded")
    assert result.provenance.fingerprint == shared.preset.fingerprint
    assert result.provenance.adjustments == ()


def test_a_changed_preset_has_another_fingerprint(fresh, shared):
    assert fresh(workers=1, n_ctx=2048).provenance.fingerprint != shared.provenance.fingerprint


def test_a_result_goes_through_json_pickle_and_copy(result):
    assert json.loads(json.dumps(result.to_dict()))["probabilities"] == result.probabilities
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


def test_a_result_cannot_be_changed(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.label = "cat"


def test_a_result_reads_as_a_line(result, shared, draw, tmp_path):
    draw("circle", "red").save(tmp_path / "red.png")
    assert str(shared.classify(tmp_path / "red.png")).startswith("red.png: red circle (")
    assert isinstance(result, Classification)
    assert result.ok


def test_a_classifier_reads_as_what_it_is(shared, shared_open):
    assert repr(shared) == "<Classifier 'embedded': embedded, 6 labels, CPU>"
    assert "open set" in repr(shared_open)
