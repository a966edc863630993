"""OpenAI's batch format: a file of requests in, a file of responses out, a JSON object a line.

:class:`Batch` is the part of a file that a job answers; :func:`read_lines` takes the file apart into lines that are
known to be requests or to be wrong. :func:`read_request` makes a conversation with its options of a request's body,
and :mod:`.responses` writes the lines of the output. No engine is imported.
"""

from __future__ import annotations

from .batch import Batch
from .lines import ENDPOINT, BatchLine, read_lines
from .requests import canonical, derived_seed, digest, read_request
from .responses import answer, output_line, refusal, unanswered

__all__ = [
    "ENDPOINT",
    "Batch",
    "BatchLine",
    "answer",
    "canonical",
    "derived_seed",
    "digest",
    "output_line",
    "read_lines",
    "read_request",
    "refusal",
    "unanswered",
]
