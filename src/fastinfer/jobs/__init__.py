"""Jobs: a folder of images or a file of prompts to one file of results, in runs that may end at any moment.

Data flows one way: items, what the journal knows of them, what is computed, the journal, the output. ``opening`` is the
way in and ``request`` what it was asked; ``work`` says what a job computes, as the runner sees it, and ``classify`` and
``chat`` are the two works; ``items`` lists and reads files, ``configuration`` says what decides a result, ``journal``
keeps what is known, ``runner`` joins them. ``output`` names the files and ``writers`` writes them; ``bottleneck`` and
``progress`` say how it goes, and ``summary`` how it went.
"""

from __future__ import annotations

from fastinfer.jobs.opening import arun, run
from fastinfer.jobs.summary import JobSummary

__all__ = ["JobSummary", "arun", "run"]
