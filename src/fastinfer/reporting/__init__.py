"""How good a classifier's answers are: accuracy, confusions and calibration with intervals, and a contact sheet.

``reporter`` is the way in: ``answers`` reads results in any form (``files`` those on disk), ``truth`` finds the right
label of each and ``pictures`` its image, ``tally`` counts them one by one and ``figures`` turns the counts into numbers
with ``intervals``; ``results`` is what comes back, which ``words`` and ``page`` show.
"""

from __future__ import annotations

from fastinfer.reporting.reporter import report
from fastinfer.reporting.results import (
    Bin,
    CalibrationFigures,
    ClassificationReport,
    Confusion,
    Estimate,
    Failure,
    LabelFigures,
    PredictionSets,
    ShownImage,
)

__all__ = [
    "Bin",
    "CalibrationFigures",
    "ClassificationReport",
    "Confusion",
    "Estimate",
    "Failure",
    "LabelFigures",
    "PredictionSets",
    "ShownImage",
    "report",
]
