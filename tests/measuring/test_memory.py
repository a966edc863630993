"""The most memory that was held."""

from __future__ import annotations

import sys
from typing import Any

import pytest

HELD_FOR_A_WHILE = """
import numpy as np
from fastinfer.measuring.memory import PeakMemory
with PeakMemory("CPU") as before:
    pass
with PeakMemory("CPU") as memory:
    held = np.ones(100_000_000, np.uint8)  # more than an allocator keeps
    assert memory._over.wait(0.2) is False  # some looks at it
    del held
print(memory.process - before.process, memory.gpu)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident size is Linux's to tell")
def test_what_was_held_for_a_while_is_in_the_peak(run_python: Any) -> None:
    # In a process of its own: in this one, other tests' garbage may be freed meanwhile.
    done = run_python(HELD_FOR_A_WHILE)
    assert (done.returncode, done.stderr) == (0, "")
    grown, gpu = done.stdout.split()
    assert int(grown) > 90_000_000
    assert gpu == "None"
