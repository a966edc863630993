"""Classification: images in, labels with probabilities out.

``classifier`` is the object users hold and ``opening`` puts it together from a preset and a model; ``labels`` checks
label sets, ``stream`` runs long inputs in bounded memory, ``results`` is what comes back.
"""

from __future__ import annotations

from fastinfer.classify.classifier import Classifier
from fastinfer.classify.opening import classifier
from fastinfer.classify.results import Classification, Timings

__all__ = ["Classification", "Classifier", "Timings", "classifier"]
