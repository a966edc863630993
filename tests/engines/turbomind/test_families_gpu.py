"""Every family that TurboMind serves here gives the probabilities that Transformers gives in float32.

Run with ``pytest -m gpu`` on a machine with an NVIDIA GPU and the extra ``turbomind``. That the comparison can fail,
because labels depend on the picture and on where things are in it, is shown in test_families.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import fastinfer
from family_checkpoints import FAMILIES, write_family
from family_pictures import different_shapes
from family_quantised import METHODS, write_quantised
from family_reference import Reference

pytestmark = pytest.mark.gpu

PROMPT = "What is this?"
#: Labels of one token, and two of which one is the start of the other.
WORDS = ["red", "blue", "green", "circle", "car", "cat", "What", "square", "red circle", "blue square"]
#: Labels that only tokens after the first tell apart; the first one of them ends where the others go on.
BRANCHES = ["red", "red circle", "red square", "red car", "red cat", "red green", "red blue", "red a", "red cat car"]
#: By how much a probability may be off: bfloat16 moves these networks' by up to 0.03.
ROUNDING = 0.06
#: FP8 kernels round what the weights are multiplied with, too: by up to 0.11. Scales in wrong places, by 0.18 and more.
FP8_ROUNDING = 0.15


@dataclass(frozen=True, slots=True)
class Opened:
    name: str
    classifier: Any
    reference: Reference


def open_classifier(folder: Any, **options: Any) -> Any:
    return fastinfer.classifier(
        "prod-exact", model=folder, labels=WORDS, prompt=PROMPT, cache_max_entry_count=0.02, max_batch_size=16,
        session_len=1024, label_tolerance=0.0, **options,
    )  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("family") / "checkpoint"
    native = write_family(family, folder)
    reference = Reference(native, family.processor, max_tiles=family.options.get("max_tiles", 1))
    with open_classifier(folder, **family.options) as classifier:
        yield Opened(request.param, classifier, reference)


def largest_difference(classifier: Any, reference: Reference, labels: list[str]) -> float:
    """Between any label's probabilities, over all pictures."""
    largest = 0.0
    for picture in different_shapes():
        got = classifier.classify(picture, labels=labels).probabilities
        expected = reference.probabilities(picture, PROMPT, labels)
        largest = max(largest, float(np.abs(np.array([got[label] for label in labels]) - expected).max()))
    return largest


@pytest.mark.parametrize("labels", [WORDS, BRANCHES], ids=["words", "branches"])
def test_probabilities_are_those_of_the_network_in_float32(opened, labels, request):
    largest = largest_difference(opened.classifier, opened.reference, labels)
    request.config.get_terminal_writer().line(f" {opened.name}: off by at most {largest:.4f}")
    assert largest <= ROUNDING


def test_pictures_of_different_shapes_in_a_batch_are_as_one_by_one(opened):
    """As near to float32 as one by one. Matrix products of other shapes round otherwise, by up to 0.04 in all."""
    pictures = different_shapes() * 4
    expected = [opened.reference.probabilities(picture, PROMPT, WORDS) for picture in different_shapes()] * 4
    for result, probabilities in zip(opened.classifier.classify_many(pictures), expected, strict=True):
        got = np.array([result.probabilities[label] for label in WORDS])
        assert np.abs(got - probabilities).max() <= ROUNDING, result.source


def test_an_image_takes_the_tokens_that_transformers_gives_it(opened):
    for picture in different_shapes():
        expected = opened.reference.inputs(picture, PROMPT)["input_ids"].shape[1]
        assert opened.classifier.classify(picture).prompt_tokens == expected, picture.size


@pytest.mark.parametrize("method", METHODS)
def test_quantised_text_weights_give_the_same_as_the_numbers_they_stand_for(method, tmp_path, request):
    """Last, because TurboMind ends the process on shapes that it has no kernel for."""
    family = FAMILIES["InternVL, encoder 128, Qwen3 128, tied"]
    write_family(family, tmp_path / "source")
    plain = write_quantised(method, tmp_path / "source", tmp_path / method)
    with open_classifier(tmp_path / method) as classifier:
        largest = largest_difference(classifier, Reference(plain, family.processor), WORDS)
    request.config.get_terminal_writer().line(f" {method}: off by at most {largest:.4f}")
    assert largest <= (FP8_ROUNDING if method == "fp8" else ROUNDING)
