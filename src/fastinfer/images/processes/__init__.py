"""Decoding in processes of our own: beside the interpreter's lock, and where a decoder's crash harms one image alone.

:class:`DecodeProcesses` is the caller's side, :mod:`~fastinfer.images.processes.child` the other one, and
:mod:`~fastinfer.images.processes.wire` what goes between them.
"""

from __future__ import annotations

from .pool import DecodeProcesses

__all__ = ["DecodeProcesses"]
