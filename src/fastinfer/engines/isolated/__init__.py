"""Engines in processes of their own: what ends such a process ends neither the caller's nor, for long, the engine.

``classify`` and ``chat`` are the engines as callers hold them, ``face`` is what they share. ``supervisor`` starts the
process again when it dies and repeats what may be repeated; ``process`` is one such process, ``messages`` what goes
through its socket, ``calls`` questions with an answer, ``failures`` errors on that way, ``memory`` what both sides see:
images, and scores. ``child`` is the other side, with ``serving`` for each kind of engine; ``opener`` says there which
engine to open, ``policy`` whether it gets a process at all.
"""

from __future__ import annotations
