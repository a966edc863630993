"""Where the tokens of conversations are kept: the sequences of a unified KV cache, and what of it can be shared.

Running requests have the sequences that belong to their slots. A request that ends leaves its tokens in a sequence of
its own, so that the next turn of the conversation, or another one that starts alike, goes on from there; the one used
longest ago makes room when room is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.chat.batch import Part
from fastinfer.engines.llama.chat.budget import RowPadding
from fastinfer.engines.llama.chat.cells import CellLedger
from fastinfer.engines.llama.chat.prefixes import chunk_moves, common_prefix
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.chat.sampler import TokenSampler
from fastinfer.engines.llama.chat.sharing import LEAST_FOLLOWED, LEAST_KEPT, SharingMemory
from fastinfer.engines.llama.context import LlamaContext

__all__ = ["UnifiedMemory"]

Ints = npt.NDArray[np.int32]


@dataclass(slots=True, eq=False)
class _Kept:
    sequence: int
    tokens: Ints
    cells: Ints
    used: int


class UnifiedMemory(SharingMemory):
    """The sequences of a context whose cells are shared by all.

    Args:
        context: the context.
        first_kept: first sequence id for conversations that are kept; below it are the slots'.
        kept: how many conversations can be kept; the id after theirs is for rows that nobody reads.
        twin: what to add to a slot's sequence for requests that read all scores; 0 where all do.
        reserved: cells that are not for requests.
        chunk: shortest stretch of a kept conversation to be moved to another position and used there; 0 none.
        whole_only: the model's memory can only be continued where it ends (recurrent models).
    """

    #: Sequences of a step may have gaps, and any numbers of tokens are computed together.
    dense = False

    def __init__(
        self,
        context: LlamaContext,
        *,
        first_kept: int,
        kept: int,
        twin: int,
        reserved: int,
        chunk: int,
        whole_only: bool,
    ) -> None:
        super().__init__(context, chunk=chunk, whole_only=whole_only)
        self._first_kept, self._most_kept, self._size = first_kept, kept, context.n_ctx - reserved
        self._twin, self._scratch = twin, first_kept + kept
        self._clock = 0
        self.forget_all()

    def forget_all(self) -> None:
        """Start anew, after the context was cleared."""
        self._ledger = CellLedger(self._size)
        self._kept: list[_Kept] = []
        self._unused = list(range(self._first_kept + self._most_kept - 1, self._first_kept - 1, -1))

    @property
    def limit(self) -> int:
        """Most tokens of a request, prompt and reply."""
        return min(self._size, self._context.sequence_limit)

    @property
    def size(self) -> int:
        """Cells for requests and for conversations that are kept."""
        return self._size

    @property
    def free(self) -> int:
        """Cells that no sequence holds."""
        return self._ledger.free

    @property
    def used(self) -> int:
        """Cells that hold tokens, of kept conversations too; may be asked by any thread."""
        return self._size - self._ledger.free

    @property
    def kept(self) -> int:
        """Conversations kept."""
        return len(self._kept)

    def choose(self, request: Request, free: Sequence[int]) -> int:
        """The slot for a request; where its tokens are does not matter, and low ones keep batches dense."""
        return free[0]

    def sequence(self, slot: int, sampler: TokenSampler | None) -> int:
        """The sequence of a slot; there is a second one for requests that read all scores."""
        return slot + (self._twin if sampler is not None and sampler.needs_scores else 0)

    def surplus(self, parts: Sequence[Part], padding: RowPadding | None) -> list[tuple[int, int]]:
        """(sequence, position) of rows to pad a step with, where more rows take less time."""
        if padding is None:
            return []
        return self.idle_rows(padding.rows(len(parts)) - len(parts))

    def idle_rows(self, count: int) -> list[tuple[int, int]]:
        """(sequence, position) of ``count`` rows that belong to no request."""
        return [(self._scratch, position) for position in range(count)]

    def admit(self, request: Request, running: Iterable[Request], headroom: int) -> bool:
        """Give a request the beginning that others have evaluated already, if the rest of it fits.

        The request has its sequence; ``done`` and ``cells`` are filled in here. Where a running request is still
        evaluating a longer beginning, that one becomes its leader.

        Args:
            request: the request, ``start()``-ed or preempted.
            running: requests in slots.
            headroom: cells to leave free beside it, for the replies that run.

        Returns:
            False where it has to wait for room; then nothing has changed but kept conversations that made room.
        """
        wanted = request.tokens[: request.length]
        # The last token is evaluated in any case, because its scores choose the next one.
        best, kept = 0, None
        for entry in self._kept:
            length = self._shared(request, entry.sequence, common_prefix(entry.tokens, wanted[:-1]))
            length = self._usable(length, len(entry.tokens))
            if length > best:
                best, kept = length, entry
        source, leader, leader_length = kept.sequence if kept else -1, None, 0
        shared = kept.cells if kept else None
        if not self._whole_only:
            for other in running:
                length = request.whole(common_prefix(other.tokens[: other.length], wanted[:-1]))
                if (there := self._shared(request, other.sequence, min(length, other.done))) > best:
                    best, kept, source, shared = there, None, other.sequence, other.cells
                if length > other.done and length >= leader_length + 1:
                    leader, leader_length = other, length
        if leader_length < best + LEAST_FOLLOWED:
            leader, leader_length = None, 0
        need = len(wanted) - max(best, leader_length) + headroom
        if not self._make_room(need, spare=kept):
            if kept is not None:
                self._shorten(kept, best, request.position(best))
            if self._ledger.free < need:
                return False
        movable = kept is not None and request.pictures is None and self._context.holds(kept.sequence, 0)
        if kept is not None and movable and self._chunk and self._reuse_chunks(request, kept, best):
            return True
        if shared is not None:
            self._take_over(request, source, shared, best)
            if kept is not None:
                kept.used = self._tick()
        request.leader, request.leader_length = leader, leader_length
        return True

    def follow(self, request: Request) -> None:
        """Copy what the leader has evaluated, when it has got that far or has left."""
        leader, length = request.leader, request.leader_length
        if leader is None:
            return
        if leader.slot < 0 or leader.cancelled:
            length = min(length, leader.done) if leader.slot >= 0 else 0
        elif leader.done < length:
            return
        request.leader = None
        length = self._shared(request, leader.sequence, length)
        if length > request.done:
            self._ledger.release(request.cells[: request.done])
            self._context.remove(request.sequence)
            request.done = 0
            self._take_over(request, leader.sequence, leader.cells, length)

    def extend(self, request: Request, count: int) -> None:
        """Take cells for the next ``count`` tokens, which :meth:`make_room` has made free."""
        if count == 1:
            request.cells[request.done] = self._ledger.take_one()
        else:
            request.cells[request.done : request.done + count] = self._ledger.take(count)

    def make_room(self, count: int) -> bool:
        """Drop kept conversations, the one used longest ago first, until ``count`` cells are free."""
        return self._make_room(count, spare=None)

    def drop_kept(self) -> bool:
        """Drop all kept conversations; False where there was none."""
        found = bool(self._kept)
        for entry in list(self._kept):
            self._drop(entry)
        return found

    def release(self, request: Request) -> None:
        """Forget a request's tokens."""
        self._ledger.release(request.cells[: request.done])
        self._context.remove(request.sequence)
        request.done = 0

    def retire(self, request: Request) -> None:
        """Keep what a request has evaluated, in place of kept conversations that it continues."""
        tokens, cells = request.tokens[: request.done].copy(), request.cells[: request.done].copy()
        if len(tokens) < LEAST_KEPT or not self._most_kept:
            self.release(request)
            return
        for entry in [e for e in self._kept if common_prefix(e.tokens, tokens) == len(e.tokens)]:
            self._drop(entry)
        if not self._unused:
            self._drop(min(self._kept, key=lambda e: e.used))
        sequence = self._unused.pop()
        self._context.copy(request.sequence, sequence)
        self._context.remove(request.sequence)
        self._kept.append(_Kept(sequence, tokens, cells, self._tick()))
        request.done = 0

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _make_room(self, count: int, spare: _Kept | None) -> bool:
        while self._ledger.free < count:
            droppable = [e for e in self._kept if e is not spare]
            if not droppable:
                return False
            self._drop(min(droppable, key=lambda e: e.used))
        return True

    def _drop(self, entry: _Kept) -> None:
        self._kept.remove(entry)
        self._context.remove(entry.sequence)
        self._ledger.release(entry.cells)
        self._unused.append(entry.sequence)

    def _shorten(self, entry: _Kept, length: int, position: int) -> None:
        """Forget what a kept conversation has beyond its first tokens, from a position on."""
        if length < len(entry.tokens):
            self._context.remove(entry.sequence, position, -1)
            self._ledger.release(entry.cells[length:])
            entry.tokens, entry.cells = entry.tokens[:length], entry.cells[:length]

    def _take_over(self, request: Request, source: int, cells: Ints, length: int) -> None:
        self._context.copy(source, request.sequence, -1 if self._whole_only else request.position(length))
        request.cells[:length] = cells[:length]
        self._ledger.share(cells[:length])
        request.done = length

    def _reuse_chunks(self, request: Request, kept: _Kept, prefix: int) -> bool:
        """Use later stretches of a kept conversation too, moved to where the prompt has them.

        The keys are turned to their new positions; what the tokens had seen before stays as it was, so the result is
        close to that of evaluating them anew, not equal. It is what llama-server's --cache-reuse does.
        """
        moves, at = chunk_moves(kept.tokens, request.tokens[: request.length - 1], prefix, self._chunk)
        if not moves or not self._ledger.exclusive(kept.cells[prefix:]):
            return False
        self._kept.remove(kept)
        self._context.copy(kept.sequence, request.sequence)
        self._context.remove(kept.sequence)
        self._unused.append(kept.sequence)
        request.cells[:prefix] = kept.cells[:prefix]
        used = np.zeros(len(kept.cells), bool)
        used[:prefix] = True
        for start, target, length in moves:
            self._context.remove(request.sequence, target, start)
            self._context.shift(request.sequence, start, start + length, target - start)
            request.cells[target : target + length] = kept.cells[start : start + length]
            used[start : start + length] = True
        request.done = at
        self._context.remove(request.sequence, at, -1)
        self._ledger.release(kept.cells[~used])
        return True
