"""From an engine's scores, or an error, to the result that callers get."""

from __future__ import annotations

import math

import numpy as np

from fastinfer.calibrating.applying import Calibrated
from fastinfer.classify.labels import LabelSet
from fastinfer.classify.results import Classification, Timings
from fastinfer.engines.base import Scores
from fastinfer.engines.scoring import normalise
from fastinfer.errors import EngineError, FastInferError
from fastinfer.images import ImageSource, describe_source
from fastinfer.provenance import Provenance

__all__ = ["classified", "failed"]


def _has_no_numbers(scores: Scores) -> bool:
    if scores.labels is not None:
        return bool(np.isnan(scores.labels).any())
    return scores.naming is not None and math.isnan(scores.naming.probability)


def classified(
    image: ImageSource,
    scores: Scores,
    decode_ms: float,
    labels: LabelSet | None,
    provenance: Provenance,
    calibrated: Calibrated | None,
) -> Classification:
    """The result of an image that was classified.

    Args:
        image: what the caller passed.
        scores: the engine's answer.
        decode_ms: milliseconds that reading, decoding and resizing took.
        labels: the label set; None where the model named what it saw.
        provenance: what ran.
        calibrated: the calibration for these labels; None without.

    Raises:
        EngineError: the scores are no numbers.
    """
    if _has_no_numbers(scores):
        raise EngineError(
            f"The engine's scores of {describe_source(image)} are no numbers.",
            hint="The model's files or the device may be damaged; try another number format, or without the GPU.",
        )
    prediction_set = None
    if scores.labels is not None and labels is not None:
        shares, mass = normalise(scores.labels)
        if calibrated is not None:
            ranked, prediction_set = calibrated.rank(labels.names, scores.labels, shares)
        else:
            # Equal probabilities are ordered by name, so that the order of the labels changes nothing.
            ranked = sorted(zip(labels.names, shares.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    else:
        assert scores.naming is not None
        mass = scores.naming.probability
        ranked = [(scores.naming.text, mass)]
    return Classification(
        source=describe_source(image),
        label=ranked[0][0],
        confidence=ranked[0][1],
        probabilities=dict(ranked),
        label_mass=mass,
        prompt_tokens=scores.prompt_tokens,
        timings=Timings(decode_ms, scores.queued_ms, scores.encode_ms, scores.score_ms, scores.batch),
        provenance=provenance,
        prediction_set=prediction_set,
        abstained=prediction_set is not None and len(prediction_set) != 1,
    )


def failed(image: ImageSource, error: FastInferError, provenance: Provenance) -> Classification:
    """The result of an image that failed."""
    return Classification(
        source=describe_source(image),
        label=None,
        confidence=0.0,
        probabilities={},
        label_mass=0.0,
        prompt_tokens=0,
        timings=None,
        provenance=provenance,
        error=error,
    )
