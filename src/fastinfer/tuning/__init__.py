"""Finding the values of a preset that suit a machine, a model and a sample of the user's own: measured, not guessed."""

from __future__ import annotations

from fastinfer.tuning.goal import AIMS, Aim, Goal
from fastinfer.tuning.ladders import LADDERS, Ladder
from fastinfer.tuning.opening import tune
from fastinfer.tuning.results import Point, Tuned

__all__ = ["AIMS", "LADDERS", "Aim", "Goal", "Ladder", "Point", "Tuned", "tune"]
