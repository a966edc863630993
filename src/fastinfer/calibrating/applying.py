"""A calibration on a classifier: checked against it, then put to every result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastinfer.calibrating.calibration import Calibration
from fastinfer.calibrating.conformal import log_odds_against
from fastinfer.calibrating.temperature import shares_at
from fastinfer.errors import LabelError, PresetError
from fastinfer.provenance import Provenance

if TYPE_CHECKING:
    from fastinfer.classify.labels import LabelSet

__all__ = ["Calibrated"]

Doubles = npt.NDArray[np.float64]


class Calibrated:
    """What results need of a calibration.

    Args:
        calibration: what to put on.
        labels: the classifier's label set.
        provenance: the classifier's.
        prompt: the question it asks.

    Attributes:
        calibration: as it was given.
        provenance: the classifier's, with the calibration's fingerprint.

    Raises:
        LabelError: the label sets differ.
        PresetError: it is no calibration, or of another model or prompt: there the same probability means something
            else, and nothing would show it. Whatever else differs in the preset changes no more than rounding does.
    """

    def __init__(
        self, calibration: Calibration, labels: LabelSet | None, provenance: Provenance, *, prompt: str
    ) -> None:
        if not isinstance(calibration, Calibration):
            raise PresetError(
                f"A calibration is expected, not {type(calibration).__name__}.",
                hint="Assign what calibrate() returned, or Calibration.load(path).",
            )
        # Imported here because classify uses this module.
        from fastinfer.classify.labels import check_labels

        self._texts = frozenset(check_labels(calibration.labels).texts)
        if not self.covers(labels):
            raise LabelError(
                f"The calibration is for {len(calibration.labels)} other labels than the classifier's.",
                hint="Give the classifier the labels calibration.labels, or calibrate it with its own.",
            )
        for what, its, ours in (
            ("model", calibration.model, provenance.model),
            ("prompt", calibration.prompt, prompt),
        ):
            if its != ours:
                raise PresetError(
                    f"The calibration is for the {what} {its!r}, and the classifier's is {ours!r}.",
                    hint="Calibrate again. If only the name is another, say so: "
                    f"dataclasses.replace(calibration, {what}={ours!r}).",
                )
        self.calibration = calibration
        self.provenance = replace(provenance, calibration=calibration.fingerprint)

    def covers(self, labels: LabelSet | None) -> bool:
        """Whether this is the calibration's label set, in any order."""
        return labels is not None and frozenset(labels.texts) == self._texts

    def rank(
        self, names: tuple[str, ...], scores: Doubles, shares: Doubles
    ) -> tuple[list[tuple[str, float]], tuple[str, ...]]:
        """The labels with their probabilities at the temperature, best first, and those in the prediction set.

        Args:
            names: the labels.
            scores: log-probability of each, (labels,) float64.
            shares: the probabilities without a calibration, whose order is kept, (labels,) float64.
        """
        scaled = shares_at(scores, self.calibration.temperature)
        within = log_odds_against(scores, self.calibration.temperature) <= self.calibration.threshold
        rows = zip(names, shares.tolist(), scaled.tolist(), within.tolist(), strict=True)
        # Labels whose own probability is too small for a float may have one at the temperature.
        ranked = sorted(rows, key=lambda row: (-row[1], 0.0 if row[1] else -row[2], row[0]))
        return [(name, share) for name, _, share, _ in ranked], tuple(name for name, *_, inside in ranked if inside)
