"""A KV cache that is divided among the slots: each keeps its last conversation, and beginnings are shared by copying.

llama.cpp computes a batch over such a cache in one go only where the rows' sequences follow each other without a gap,
so slots with nothing to do between others get a row that nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.binding import llama
from fastinfer.engines.llama.chat.batch import Part
from fastinfer.engines.llama.chat.budget import RowPadding
from fastinfer.engines.llama.chat.prefixes import chunk_moves, common_prefix
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.chat.sampler import TokenSampler
from fastinfer.engines.llama.chat.sharing import LEAST_FOLLOWED, LEAST_KEPT, SharingMemory
from fastinfer.engines.llama.context import LlamaContext

__all__ = ["PartitionedMemory"]

Ints = npt.NDArray[np.int32]


class PartitionedMemory(SharingMemory):
    """The sequences of a context in which each slot has cells of its own.

    Args:
        context: the context; sequence ``i`` is slot ``i``'s.
        slots: number of slots.
        cuts: the chain that the device runs for each sequence, empty where it runs none; kept up to date when others
            take their place, and freed by the caller.
        chunk: shortest stretch of a kept conversation to be moved to another position and used there; 0 none.
        whole_only: the model's memory can only be continued where it ends (recurrent models).
    """

    #: Sequences of a step follow each other without a gap, and every other number of tokens is computed by itself.
    dense = True

    def __init__(
        self, context: LlamaContext, *, slots: int, cuts: dict[int, Any], chunk: int, whole_only: bool
    ) -> None:
        super().__init__(context, chunk=chunk, whole_only=whole_only)
        self._cuts, self._attached = cuts, set(cuts)
        self._slots = slots
        self._clock = 0
        self.forget_all()

    def forget_all(self) -> None:
        """Start anew, after the context was cleared."""
        self._kept: list[Ints] = [np.empty(0, np.int32) for _ in range(self._slots)]
        #: The position after the last one that a sequence holds.
        self._ends: dict[int, int] = {}
        self._used = [0] * self._slots

    @property
    def limit(self) -> int:
        """Most tokens of a request, prompt and reply."""
        # One less, for the row that nobody reads.
        return self._context.sequence_limit - 1

    @property
    def free(self) -> int:
        """Cells that a step may take; there is always room in a slot."""
        return self._context.n_batch

    @property
    def size(self) -> int:
        """Cells of all slots."""
        return self._slots * self.limit

    @property
    def used(self) -> int:
        """Cells that hold tokens, of kept conversations too; may be asked by any thread."""
        return sum(list(self._ends.values()))

    @property
    def kept(self) -> int:
        """Conversations kept."""
        return sum(len(tokens) > 0 for tokens in self._kept)

    def choose(self, request: Request, free: Sequence[int]) -> int:
        """The free slot whose last conversation begins most like the request.

        Without such a one, it is a slot between those that are taken, or else beside them, so that few rows close gaps;
        of equals, the one unused for longest.
        """
        wanted = request.tokens[: request.length - 1]
        shared = {slot: self._usable(common_prefix(self._kept[slot], wanted), len(self._kept[slot])) for slot in free}
        best = max(free, key=lambda slot: (shared[slot], -self._used[slot], -slot))
        if shared[best] >= LEAST_KEPT:
            return best
        taken = set(range(self._slots)).difference(free)
        low, high = min(taken, default=0), max(taken, default=self._slots)
        return min(free, key=lambda slot: (max(low - slot, slot - high, 0), self._used[slot], slot))

    def admit(self, request: Request, running: Iterable[Request], headroom: int) -> bool:
        """Give a request the beginning that its slot, another or a running request has evaluated already."""
        wanted, mine = request.tokens[: request.length - 1], self._kept[request.sequence]
        best = self._usable(self._shared(request, request.sequence, common_prefix(mine, wanted)), len(mine))
        source = request.sequence
        leader, leader_length = None, 0
        if not self._whole_only:
            for slot, tokens in enumerate(self._kept):
                length = self._shared(request, slot, common_prefix(tokens, wanted))
                if length >= best + LEAST_FOLLOWED:
                    best, source = length, slot
            for other in running:
                length = request.whole(common_prefix(other.tokens[: other.length], wanted))
                if (there := self._shared(request, other.sequence, min(length, other.done))) >= best + LEAST_FOLLOWED:
                    best, source = there, other.sequence
                if length > other.done and length > leader_length:
                    leader, leader_length = other, length
        if source == request.sequence and request.pictures is None and self._context.holds(source, 0):
            best = self._reuse_chunks(request, mine, best)
        self._begin(request, source, best)
        if leader_length >= best + LEAST_FOLLOWED:
            request.leader, request.leader_length = leader, leader_length
        return True

    def follow(self, request: Request) -> None:
        """Copy what the leader has evaluated, when it has got that far or has left."""
        leader, length = request.leader, request.leader_length
        if leader is None or (leader.slot >= 0 and not leader.cancelled and leader.done < length):
            return
        request.leader = None
        length = self._shared(request, leader.sequence, min(length, leader.done)) if leader.slot >= 0 else 0
        if length > request.done:
            self._begin(request, leader.sequence, length)

    def extend(self, request: Request, count: int) -> None:
        """Take note of the next ``count`` tokens; the slot's cells are its own."""
        self._ends[request.sequence] = request.position(request.done + count)

    def make_room(self, count: int) -> bool:
        """There is room."""
        return True

    def drop_kept(self) -> bool:
        """Drop all kept conversations; False where there was none."""
        found = False
        for slot, tokens in enumerate(self._kept):
            if len(tokens):
                found = True
                self._forget(slot)
        return found

    def release(self, request: Request) -> None:
        """Forget a request's tokens."""
        self._forget(request.sequence)
        request.done = 0

    def retire(self, request: Request) -> None:
        """Keep what a request has evaluated in its slot."""
        self._kept[request.sequence] = request.tokens[: request.done].copy()
        self._clock += 1
        self._used[request.sequence] = self._clock
        request.done = 0

    def sequence(self, slot: int, sampler: TokenSampler | None) -> int:
        """The sequence of a slot; a request that reads all scores has the device's cut taken off it."""
        cut = self._cuts.get(slot)
        if cut is not None:
            wanted = sampler is None or not sampler.needs_scores
            if wanted != (slot in self._attached):
                self._attached ^= {slot}
                if wanted:
                    # llama.cpp ends the process when a chain is attached twice, so that it gets a copy each time.
                    self._cuts[slot] = llama.llama_sampler_clone(cut)
                    self._context.attach(slot, self._cuts[slot])
                    llama.llama_sampler_free(cut)
                else:
                    self._context.attach(slot, None)
        return slot

    def surplus(self, parts: Sequence[Part], padding: RowPadding | None) -> list[tuple[int, int]]:
        """(sequence, position) of rows that close the gaps between a step's sequences, and that pad it."""
        # Single rows are computed together, with the first of each prompt; prompts alone need no others.
        if self._whole_only or all(count > 1 for _, count in parts):
            return []
        present = {request.sequence for request, _ in parts}
        low, high = min(present), max(present) + 1
        if padding is not None:
            rows = padding.rows(high - low)
            # Towards the end as far as there are sequences, then towards the beginning.
            high = min(low + rows, self._context.n_sequences)
            low = high - rows
        return [(sequence, self._ends.get(sequence, 0)) for sequence in range(low, high) if sequence not in present]

    def idle_rows(self, count: int) -> list[tuple[int, int]]:
        """(sequence, position) of ``count`` rows that belong to no request; for a cache that is empty."""
        return [(sequence, 0) for sequence in range(count)]

    def _forget(self, slot: int) -> None:
        self._context.remove(slot)
        self._kept[slot] = np.empty(0, np.int32)
        self._ends[slot] = 0

    def _begin(self, request: Request, source: int, length: int) -> None:
        """Let the request's sequence hold the first ``length`` tokens of the source's."""
        target = request.sequence
        if source != target and length:
            # Between slots llama.cpp copies a sequence whole; what is too much goes afterwards.
            self._context.remove(target)
            self._context.copy(source, target)
        if not self._context.remove(target, request.position(length) if length else -1, -1):
            self._context.remove(target)
            length = 0
        self._kept[target] = np.empty(0, np.int32)
        request.done, self._ends[target] = length, request.position(length)

    def _reuse_chunks(self, request: Request, kept: Ints, prefix: int) -> int:
        """Move later stretches of the slot's last conversation to where the prompt has them; the tokens then shared."""
        if not self._chunk:
            return prefix
        moves, shared = chunk_moves(kept, request.tokens[: request.length - 1], prefix, self._chunk)
        for start, target, length in moves:
            self._context.remove(request.sequence, target, start)
            self._context.shift(request.sequence, start, start + length, target - start)
        return shared
