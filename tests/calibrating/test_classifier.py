"""A calibrated classifier: the same labels, honest probabilities, sets instead of a guess; one answer in every way."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

import fastinfer
from examples import examples
from fastinfer.calibrating.applying import Calibrated
from fastinfer.calibrating.conformal import least_probability
from fastinfer.classify.finishing import classified
from fastinfer.classify.labels import check_labels
from fastinfer.engines.base import Scores
from fastinfer.errors import EngineDeadError, ImageDecodeError, LabelError, PresetError

PLAIN = {"workers": 1, "n_threads": 1}
PROVENANCE = fastinfer.Provenance("none", "embedded", "embedded", "0" * 16, "CPU", "none")


@pytest.fixture(scope="module")
def calibrated(sample_labels: list[str], labelled: list[Any]) -> Iterator[Any]:
    """A classifier that was calibrated with the turned samples; tests leave it as it is."""
    with fastinfer.classifier(labels=sample_labels, model="embedded", **PLAIN) as classifier:
        classifier.calibrate(labelled)
        yield classifier


@pytest.fixture
def own(fresh: Any, sample_labels: list[str]) -> Any:
    """A classifier that a test may change."""
    return fresh(labels=sample_labels, **PLAIN)


def test_calibrating_sets_the_calibration_and_says_what_it_is(calibrated: Any, labelled: list[Any]) -> None:
    calibration = calibrated.calibration
    assert isinstance(calibration, fastinfer.Calibration)
    assert calibration.labels == calibrated.labels
    assert (calibration.count, calibration.coverage, calibration.skipped) == (len(labelled), 0.9, 0)
    assert (calibration.model, calibration.prompt) == ("embedded", "What is this?")
    assert calibration.preset_fingerprint == calibrated.preset.fingerprint
    assert 0 < calibration.right < calibration.count


def test_the_labelled_images_are_covered_as_asked(calibrated: Any, labelled: list[Any]) -> None:
    results = list(calibrated.classify_many([image for image, _ in labelled], reproducible=True))
    held = [truth in result.prediction_set for result, (_, truth) in zip(results, labelled, strict=True)]
    # The threshold is one of their own scores.
    assert sum(held) == np.ceil(0.9 * (len(labelled) + 1))
    right = [result.label == truth for result, (_, truth) in zip(results, labelled, strict=True)]
    assert sum(right) == calibrated.calibration.right


def test_labels_and_their_order_stay_and_only_probabilities_change(
    calibrated: Any, own: Any, labelled: list[Any]
) -> None:
    images = [image for image, _ in labelled]
    plain = own.classify_many(images, reproducible=True)
    for before, after in zip(plain, calibrated.classify_many(images, reproducible=True), strict=True):
        assert list(after.probabilities) == list(before.probabilities)
        assert (after.label, after.label_mass, after.prompt_tokens) == (
            before.label,
            before.label_mass,
            before.prompt_tokens,
        )
        assert sum(after.probabilities.values()) == pytest.approx(1)
        assert (before.prediction_set, before.abstained) == (None, False)
        logs = np.log(list(before.probabilities.values())) / calibrated.calibration.temperature
        assert list(after.probabilities.values()) == pytest.approx(np.exp(logs) / np.exp(logs).sum(), abs=1e-9)


def test_a_set_holds_the_labels_from_the_least_probability_on_likeliest_first(
    calibrated: Any, labelled: list[Any]
) -> None:
    least = least_probability(calibrated.calibration.threshold)
    sizes = set()
    for result in calibrated.classify_many([image for image, _ in labelled]):
        # One of them is the threshold itself.
        likely = tuple(name for name, share in result.probabilities.items() if share >= least * (1 - 1e-9))
        assert result.prediction_set == likely
        assert result.abstained == (len(result.prediction_set) != 1)
        sizes.add(len(result.prediction_set))
    assert len(sizes) > 1


def test_a_result_says_so_in_its_provenance_and_json(calibrated: Any, labelled: list[Any]) -> None:
    result = calibrated.classify(labelled[0][0])
    assert result.provenance.calibration == calibrated.calibration.fingerprint
    assert dataclasses.replace(result.provenance, calibration=None) == calibrated.provenance
    data = json.loads(json.dumps(result.to_dict()))
    assert data["prediction_set"] == list(result.prediction_set)
    assert list(data["provenance"])[-1] == "calibration"


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 23), min_size=1, max_size=6))
def test_one_image_many_images_and_both_kinds_give_the_same_answer(
    calibrated: Any, labelled: list[Any], same: Any, places: list[int]
) -> None:
    images = [labelled[place][0] for place in places]
    least = least_probability(calibrated.calibration.threshold)

    async def waited() -> list[Any]:
        return [
            await asyncio.gather(*(calibrated.aclassify(image) for image in images)),
            [result async for result in calibrated.aclassify_many(images)],
        ]

    alone = [calibrated.classify(image) for image in images]
    many = list(calibrated.classify_many(iter(images)))
    for results in (many, list(calibrated.classify_many(images, reproducible=True)), *asyncio.run(waited())):
        for one, other in zip(alone, results, strict=True):
            same(one, other)
            assert (one.label, one.provenance) == (other.label, other.provenance)
            # Sharing a batch moves a probability a little, so a label at the very threshold may be in one set alone.
            differs = set(one.prediction_set) ^ set(other.prediction_set)
            assert all(one.probabilities[label] == pytest.approx(least, abs=5e-3) for label in differs)
            assert other.abstained == (len(other.prediction_set) != 1)


async def test_calibrating_gives_the_same_in_every_way(
    own: Any, calibrated: Any, labelled: list[Any], tmp_path: Path
) -> None:
    expected = calibrated.calibration
    assert await own.acalibrate(pair for pair in labelled) == expected
    assert own.calibration == expected
    # One that is set already has no say in it.
    assert own.calibrate(labelled, coverage=0.8, progress=True) == expected.at(0.8)
    for place, (image, label) in enumerate(labelled):
        (tmp_path / label).mkdir(exist_ok=True)
        image.save(tmp_path / label / f"{place}.png")
    from_folder = own.calibrate(str(tmp_path))
    assert from_folder.counts == expected.counts
    assert from_folder.right == expected.right
    assert from_folder.scores == pytest.approx(expected.scores, abs=0.05)


def test_images_that_fail_end_it_or_are_left_out(own: Any, labelled: list[Any], sample_labels: list[str]) -> None:
    damaged = [*labelled[:10], (b"nothing", sample_labels[0]), *labelled[10:]]
    with pytest.raises(ImageDecodeError, match="bytes"):
        own.calibrate(damaged)
    assert own.calibration is None
    calibration = own.calibrate(damaged, errors="skip")
    assert (calibration.count, calibration.skipped) == (len(labelled), 1)
    with pytest.raises(LabelError, match="needs at least 9 labelled images; there are 0"):
        own.calibrate([(b"nothing", sample_labels[0])] * 20, errors="skip", coverage=0.9)
    assert own.calibration == calibration


async def test_bad_input_is_an_error_of_the_library(own: Any, shared_open: Any, labelled: list[Any]) -> None:
    for arguments, error, said in (
        ({"labelled": [(labelled[0][0], "elephant")] * 20}, LabelError, "'elephant', which is none"),
        ({"labelled": labelled, "coverage": 95}, PresetError, "coverage 95 is not legal"),
        ({"labelled": labelled, "errors": "return"}, PresetError, "errors is 'return'"),
        ({"labelled": labelled[:3]}, LabelError, "needs at least 9 labelled images; there are 3"),
        ({"labelled": [7]}, LabelError, "not an"),
    ):
        with pytest.raises(error, match=said):
            own.calibrate(**arguments)
        with pytest.raises(error, match=said):
            await own.acalibrate(**arguments)
    with pytest.raises(LabelError, match="there are 3"):
        own.calibrate(iter(labelled[:3]))
    with pytest.raises(LabelError, match="Item 3 of the labelled images is not an"):
        own.calibrate(iter([*labelled[:3], 7]))
    with pytest.raises(LabelError, match="has no labels"):
        shared_open.calibrate(labelled)
    own.close()
    with pytest.raises(EngineDeadError, match="closed"):
        own.calibrate(labelled)


def test_a_calibration_stays_with_its_label_set(own: Any, calibrated: Any, labelled: list[Any]) -> None:
    image, calibration, names = labelled[0][0], calibrated.calibration, own.labels
    own.calibration = calibration
    own.labels = reversed(names)
    assert own.calibration is calibration
    assert own.classify(image).prediction_set is not None
    assert own.classify(image, labels=sorted(names)).prediction_set == own.classify(image).prediction_set
    other = own.classify(image, labels=["3", "7"])
    assert (other.prediction_set, other.abstained, other.provenance) == (None, False, own.provenance)
    own.labels = names[:-1]
    assert own.calibration is None
    with pytest.raises(LabelError, match="for 12 other labels"):
        own.calibration = calibration
    own.labels = None
    with pytest.raises(LabelError, match="other labels"):
        own.calibration = calibration
    own.labels = names
    own.calibration = calibration
    own.calibration = None
    assert own.classify(image).prediction_set is None


def test_a_failed_image_has_no_set_and_has_not_abstained(calibrated: Any) -> None:
    (failed,) = calibrated.classify_many([b"nothing"], errors="return")
    assert (failed.prediction_set, failed.abstained, failed.ok) == (None, False, False)


def test_one_of_another_model_or_prompt_is_refused_and_one_of_another_batch_size_is_not(
    own: Any, fresh: Any, calibrated: Any, sample_labels: list[str]
) -> None:
    calibration = calibrated.calibration
    with pytest.raises(PresetError, match=r"for the model 'other', and the classifier's is 'embedded'") as caught:
        own.calibration = dataclasses.replace(calibration, model="other")
    assert "dataclasses.replace(calibration, model='embedded')" in (caught.value.hint or "")
    with pytest.raises(PresetError, match="A calibration is expected, not dict"):
        own.calibration = calibration.to_dict()
    asking = fresh(labels=sample_labels, prompt="Which is it?", vision_max_batch_size=4, **PLAIN)
    with pytest.raises(PresetError, match=r"for the prompt 'What is this\?'"):
        asking.calibration = calibration
    asking.calibration = dataclasses.replace(calibration, prompt="Which is it?")
    assert own.calibration is None


def test_what_runs_keeps_the_calibration_that_it_began_with(own: Any, calibrated: Any, labelled: list[Any]) -> None:
    own.calibration = calibrated.calibration
    results = own.classify_many([image for image, _ in labelled])
    first = next(results)
    own.calibration = None
    assert first.prediction_set is not None
    assert all(result.prediction_set is not None for result in results)


@settings(max_examples=examples(80), deadline=None)
@given(
    logs=arrays(
        np.float64, 10, elements=st.one_of(st.floats(-3000, 0), st.just(-np.inf), st.sampled_from([-1.0, -2.0]))
    ),
    coverage=st.sampled_from([0.2, 0.5, 0.9, 0.99]),
)
def test_any_answer_gives_an_orderly_result(drawn: fastinfer.Calibration, logs: np.ndarray, coverage: float) -> None:
    labels = check_labels(drawn.labels)
    calibration = drawn.at(coverage)
    scores = Scores(logs, None, 0.0, 0.0, 0.0, 1, 9)
    plain = classified(Image.new("RGB", (8, 8)), scores, 0.0, labels, PROVENANCE, None)
    on = Calibrated(calibration, labels, PROVENANCE, prompt="What is this?")
    result = classified(Image.new("RGB", (8, 8)), scores, 0.0, labels, on.provenance, on)
    shares = list(result.probabilities.values())
    assert (result.label, result.label_mass) == (plain.label, plain.label_mass)
    assert sum(shares) == pytest.approx(1)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(shares))
    assert result.prediction_set is not None
    # The set is the beginning of the labels as they are ranked.
    assert result.prediction_set == tuple(result.probabilities)[: len(result.prediction_set)]
    assert result.abstained == (len(result.prediction_set) != 1)
