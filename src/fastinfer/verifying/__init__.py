"""Measuring a preset again and holding the figures against its receipt.

``verifier`` is the way in: ``workloads`` makes the work from numbers alone, ``taking`` measures it, and
``verification`` says what differs.
"""

from __future__ import annotations

from fastinfer.verifying.taking import measure
from fastinfer.verifying.verification import FigureCheck, Verification, confront
from fastinfer.verifying.verifier import verify
from fastinfer.verifying.workloads import standard_workload

__all__ = ["FigureCheck", "Verification", "confront", "measure", "standard_workload", "verify"]
