"""Results made by hand, since tables only ask what is in them."""

from __future__ import annotations

import pytest

from fastinfer import ChatTimings, Classification, Provenance, Reply, Timings, ToolCall, Usage
from fastinfer.errors import ImageDecodeError, MessageError

PROVENANCE = Provenance("engine", "model", "preset", "0" * 16, "CPU", "path")


@pytest.fixture
def images() -> list[Classification]:
    """A sure one, one that abstained, and one that failed."""
    timings = Timings(1.0, 0.5, 2.0, 3.0, 4)
    return [
        Classification("a.png", "dog", 0.9, {"dog": 0.9, "cat": 0.1}, 0.5, 30, timings, PROVENANCE),
        Classification(
            "b.png", "cat", 0.6, {"cat": 0.6, "dog": 0.4}, 0.5, 30, timings, PROVENANCE, None, ("cat", "dog"), True
        ),
        Classification(
            "c.png", None, 0.0, {}, 0.0, 0, None, PROVENANCE, ImageDecodeError("Cannot read c.png.", hint="Check it.")
        ),
    ]


@pytest.fixture
def replies() -> list[Reply]:
    """One with all there can be, a plain one, and one that failed."""
    return [
        Reply(
            "two\nlines",
            "first this",
            "tool_calls",
            Usage(20, 8, 12),
            ChatTimings(1.0, 30.0, 100.0, 110.0),
            (ToolCall("call_0", "look", {"where": "thư viện"}, "raw"),),
            {"n": 1},
            seed=2**32 - 2,
        ),
        Reply("plain", usage=Usage(5, 0, 2), timings=ChatTimings(0.0, 10.0, 0.0, 0.0), seed=1),
        Reply("", finish_reason="error", error=MessageError("No messages.", hint="Give one.")),
    ]
