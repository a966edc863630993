"""The ledger of cells against one that counts by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinfer.engines.llama.chat.cells import CellLedger

SIZE = 24
orders = st.lists(
    st.tuples(st.sampled_from(["take", "one", "share", "release"]), st.integers(0, 30), st.integers(1, 12)),
    max_size=60,
)


@settings(deadline=None)
@given(orders)
def test_it_agrees_with_counting_by_hand(orders):
    ledger, references, held = CellLedger(SIZE), Counter(), []
    for order, which, count in orders:
        free = SIZE - sum(1 for n in references.values() if n)
        if order in ("take", "one"):
            wanted = 1 if order == "one" else count
            if wanted > free:
                with pytest.raises(RuntimeError):
                    ledger.take_one() if order == "one" else ledger.take(wanted)
                continue
            cells = np.array([ledger.take_one()], np.int32) if order == "one" else ledger.take(wanted)
            assert all(references[int(c)] == 0 for c in cells)
            assert len(set(cells.tolist())) == wanted
        elif not held:
            continue
        elif order == "share":
            cells = held[which % len(held)][:count].copy()
            ledger.share(cells)
        else:
            for cell in (cells := held.pop(which % len(held))):
                references[int(cell)] -= 1
            ledger.release(cells)
        if order != "release":
            held.append(cells)
            references.update(int(c) for c in cells)
        assert ledger.free == SIZE - sum(1 for n in references.values() if n)
        for cells in held:
            assert ledger.exclusive(cells) == all(references[int(c)] == 1 for c in cells)
    for cells in held:
        ledger.release(cells)
    assert ledger.free == SIZE


def test_nothing_taken_changes_nothing():
    ledger = CellLedger(3)
    ledger.release(ledger.take(0))
    assert ledger.free == 3
    assert ledger.exclusive(np.empty(0, np.int32))
