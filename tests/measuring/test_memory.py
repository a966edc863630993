"""The most memory that was held."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastinfer.measuring.memory import PeakMemory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident size is Linux's to tell")
def test_what_was_held_for_a_while_is_in_the_peak() -> None:
    with PeakMemory("CPU") as before:
        pass
    with PeakMemory("CPU") as memory:
        held = np.ones(100_000_000, np.uint8)  # more than an allocator keeps
        assert memory._over.wait(0.2) is False  # some looks at it
        del held
    assert before.process is not None
    assert memory.process is not None
    assert memory.process > before.process + 90_000_000
    assert memory.gpu is None
