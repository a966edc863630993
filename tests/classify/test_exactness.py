"""Probabilities are those of brute force: one label at a time, from an empty context, multiplied out by hand."""

from __future__ import annotations

import pytest

LABELS = [
    "red circle", "red square", "red apple", "red line", "red", "red circle on white", "green circle", "green square",
    "green apple", "green", "blue circle", "blue square", "blue triangle", "blue", "black line", "black circle",
    "apple", "apple pie", "apple pie with cream", "ice", "ice cream", "ice cream cone", "circle", "square", "triangle",
    "line", "lines", "café", "cafe", "Ωμέγα", "犬", "犬小屋", "naïve", "🍎", "a", "an", "A photograph of a red circle",
    "a very long label that no model would give as its answer, with a comma, a (bracket) and 42 numbers: 1 2 3 4 5 6",
    "noise", "television static",
]  # fmt: skip


@pytest.fixture(scope="module")
def by_hand(brute_force, native):
    return [{label: brute_force.label(image, label, LABELS) for label in LABELS} for image in native]


def test_the_set_has_what_makes_scoring_hard(brute_force):
    tokens = {label: tuple(brute_force.tokens(label)) for label in LABELS}
    assert len(LABELS) == 40
    assert len({ids[0] for ids in tokens.values()}) < 30
    assert max(map(len, tokens.values())) > 30
    assert tokens["apple pie"][: len(tokens["apple"])] == tokens["apple"]


def test_probabilities_over_the_labels_are_those_of_brute_force(shared, native, by_hand):
    for image, expected in zip(native, by_hand, strict=True):
        result = shared.classify(image, labels=LABELS)
        total = sum(expected.values())
        assert result.probabilities == pytest.approx({k: p / total for k, p in expected.items()}, abs=1e-3)


def test_the_label_mass_is_the_sum_over_the_labels(shared, native, by_hand):
    for image, expected in zip(native, by_hand, strict=True):
        assert shared.classify(image, labels=LABELS).label_mass == pytest.approx(sum(expected.values()), abs=1e-3)


def test_even_improbable_labels_are_right_to_a_few_percent(shared, native, by_hand):
    for image, expected in zip(native, by_hand, strict=True):
        result = shared.classify(image, labels=LABELS)
        for label, probability in expected.items():
            if probability > 1e-20:
                assert result.probabilities[label] * result.label_mass == pytest.approx(probability, rel=0.1)


def test_a_label_that_begins_another_one_needs_the_answer_to_end(shared, brute_force, native):
    alone = shared.classify(native[0], labels=["red"])
    beside = shared.classify(native[0], labels=["red", "red circle"])
    of_red = beside.probabilities["red"] * beside.label_mass
    assert of_red <= alone.label_mass + 1e-6
    assert alone.label_mass == pytest.approx(brute_force.label(native[0], "red", ["red"]), abs=1e-3)
    assert of_red == pytest.approx(brute_force.label(native[0], "red", ["red", "red circle"]), abs=1e-3)


def test_the_pictures_do_not_all_get_the_same_answer(by_hand):
    assert len({max(expected, key=expected.get) for expected in by_hand}) >= 3


def test_probabilities_sum_to_one_and_come_best_first(shared, native):
    for result in shared.classify_many(native, labels=LABELS):
        values = list(result.probabilities.values())
        assert sum(values) == pytest.approx(1, abs=1e-9)
        assert values == sorted(values, reverse=True)
        assert (result.label, result.confidence) == next(iter(result.probabilities.items()))
        assert 0 <= result.label_mass <= 1
        assert set(result.probabilities) == set(LABELS)


def test_one_label_is_certain_and_the_mass_says_how_little_that_means(shared, native):
    result = shared.classify(native[0], labels=["television static"])
    assert result.probabilities == {"television static": 1.0}
    assert result.label_mass < 0.5


def test_a_name_without_labels_is_the_greedy_one_with_its_probability(shared_open, brute_force, native):
    most = shared_open.preset.parameters.max_label_tokens
    for image in native:
        result = shared_open.classify(image)
        text, probability = brute_force.name(image, most)
        assert result.label == text.decode("utf-8", "replace").strip()
        assert result.confidence == result.label_mass == pytest.approx(probability, abs=1e-3)
        assert result.probabilities == {result.label: result.confidence}
