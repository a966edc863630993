"""From scores to results: what is no number is an error, whichever engine it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from fastinfer.classify.finishing import classified
from fastinfer.classify.labels import check_labels
from fastinfer.engines.base import Naming, Scores
from fastinfer.errors import EngineError

NAN = float("nan")


def scores(labels=None, naming=None):
    return Scores(labels, naming, queued_ms=0, encode_ms=0, score_ms=0, batch=1, prompt_tokens=1)


@pytest.mark.parametrize(
    ("told", "chosen"),
    [
        (scores(np.array([-1.0, NAN])), check_labels(["cat", "dog"])),
        (scores(np.array([NAN, NAN])), check_labels(["cat", "dog"])),
        (scores(naming=Naming("a cat", NAN, complete=True)), None),
    ],
    ids=["one label", "all labels", "a name"],
)
def test_scores_that_are_no_numbers_are_an_error_that_names_the_image(shared, told, chosen):
    with pytest.raises(EngineError, match=r"cat\.png are no numbers") as caught:
        classified("a/cat.png", told, 1.0, chosen, shared.provenance, None)
    assert caught.value.hint


def test_labels_that_are_impossible_are_still_labels(shared):
    result = classified(
        "a.png", scores(np.array([-np.inf, -2.0])), 1.0, check_labels(["a", "b"]), shared.provenance, None
    )
    assert (result.label, result.confidence) == ("b", 1.0)
