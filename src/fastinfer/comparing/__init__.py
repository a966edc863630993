"""Two presets on the same images: accuracy with intervals, agreement, speed and memory side by side.

``comparer`` is the way in: ``collection`` finds images and labels, ``sides`` opens both presets, ``sweep`` runs them in
turns, ``summary`` counts with ``statistics``, ``results`` is what comes back, which ``report`` and ``sheet`` show.
"""

from __future__ import annotations

from fastinfer.comparing.comparer import compare
from fastinfer.comparing.results import Answer, ComparedImage, Comparison, Side, SpeedRatio
from fastinfer.comparing.statistics import PairedDifference, Share

__all__ = [
    "Answer",
    "ComparedImage",
    "Comparison",
    "PairedDifference",
    "Share",
    "Side",
    "SpeedRatio",
    "compare",
]
