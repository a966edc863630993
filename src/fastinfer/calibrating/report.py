"""A calibration in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastinfer.calibrating.calibration import Calibration
from fastinfer.calibrating.conformal import least_probability
from fastinfer.calibrating.temperature import HIGHEST, LOWEST
from fastinfer.showing import Report, Section

__all__ = ["report"]

#: Labels without an image that are listed.
_LISTED: Final = 20


def report(calibration: Calibration) -> Report:
    """What was fitted, what it is worth on the labelled images, and what to be careful about."""
    before, after = calibration.before, calibration.after
    return Report(
        title=f"Calibration of {calibration.model}: {len(calibration.labels)} labels, {calibration.count} images",
        before=[
            f"Right: {calibration.right} of {calibration.count} images.",
            f"Prediction sets hold the right label for {100 * calibration.coverage:g}% of images like these: every "
            f"label with a probability of at least {_probability(calibration.threshold)}.",
            f"fingerprint {calibration.fingerprint}, preset fingerprint {calibration.preset_fingerprint}",
        ],
        headings=("", "before", "after"),
        rows=[
            ("temperature", "1", f"{calibration.temperature:.4g}"),
            ("log loss", f"{before.log_loss:.4f}", f"{after.log_loss:.4f}"),
            ("calibration error", f"{before.calibration_error:.1%}", f"{after.calibration_error:.1%}"),
        ],
        sections=[Section("Remarks", list(_remarks(calibration)))],
    )


def _probability(score: float) -> str:
    """With as many digits as tell it from 1."""
    share, rest = least_probability(score), least_probability(-score)
    return f"{share:.3g}" if rest > 0.01 else f"1 - {rest:.2g}"


def _remarks(calibration: Calibration) -> Iterator[str]:
    if calibration.right == calibration.count:
        yield (
            "Every image was right, which does not tell how sure the model may be; the mean confidence was not raised "
            f"above {calibration.count + 1} of {calibration.count + 2}. Label images that are harder."
        )
    if calibration.temperature in (LOWEST, HIGHEST):
        yield f"The temperature is at the end of its range, {LOWEST:g} to {HIGHEST:g}."
    missing = [label for label, count in zip(calibration.labels, calibration.counts, strict=True) if not count]
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        yield f"Labels of which there was no image: {', '.join(missing[:_LISTED])}{more}."
    if calibration.skipped:
        yield f"Images that failed and were left out: {calibration.skipped}."
