"""Knowing when not to answer: probabilities and prediction sets fitted to labelled images.

``labelled`` reads the images with their labels, ``fitting`` fits a temperature (``temperature``) and a threshold
(``conformal``) to what a classifier says of them, ``calibration`` is what comes back, which ``report`` shows and
``file`` reads, and ``applying`` is what a classifier's results get of it.
"""

from __future__ import annotations

from fastinfer.calibrating.calibration import Calibration, Quality

__all__ = ["Calibration", "Quality"]
