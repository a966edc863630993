"""Rows of the matrix of faults that other tests hold in full."""

from __future__ import annotations

from fault_matrix import Covered

__all__ = ["COVERED"]

COVERED: tuple[Covered, ...] = ()
