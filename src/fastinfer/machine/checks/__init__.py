"""The checks of :func:`fastinfer.doctor`, a module for each part of the machine.

Each has functions that read, which take what they read as arguments, and functions that judge a reading, which touch
nothing. ``child`` reads in a process of its own what could crash this one, or hang.
"""

from __future__ import annotations
