"""What a preset does here, in figures: speed, waiting times and memory, with the machine they were taken on.

Everything is measured through the objects that users hold, :class:`fastinfer.Classifier` and :class:`fastinfer.LLM`.
Figures without their machine say little, so that a :class:`Receipt` keeps both together.
"""

from __future__ import annotations

from fastinfer.measuring.alternation import Paired, alternate, judge
from fastinfer.measuring.chat import measure_chat
from fastinfer.measuring.classify import measure_classify
from fastinfer.measuring.environment import Environment
from fastinfer.measuring.figures import Figures, spread, summarise
from fastinfer.measuring.receipt import Receipt, Workload, measure_preset, take_receipt

__all__ = [
    "Environment",
    "Figures",
    "Paired",
    "Receipt",
    "Workload",
    "alternate",
    "judge",
    "measure_chat",
    "measure_classify",
    "measure_preset",
    "spread",
    "summarise",
    "take_receipt",
]
