"""What a job waits for, in words, by what was measured while it ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastinfer.jobs.work import Cost

__all__ = [
    "DECODING",
    "DECODING_ON_ALL",
    "ENGINE",
    "NOTHING",
    "PREFILL",
    "READING",
    "REPLYING",
    "WRITING",
    "Spent",
    "bottleneck",
]

NOTHING: Final = "nothing was computed: every result was known"
READING: Final = "reading-bound: the disk or network is the limit"
DECODING: Final = "decoding-bound: raise decode_workers"
DECODING_ON_ALL: Final = "decoding-bound: every core decodes already, smaller files would be faster"
ENGINE: Final = "engine-bound: the model takes the time"
PREFILL: Final = "prefill-bound: reading the prompts takes the time, let them begin alike or raise n_ubatch"
REPLYING: Final = "decode-bound: writing the replies takes the time, raise parallel while memory lasts"
WRITING: Final = "writing-bound: the output's disk is the limit"

#: Of the time of all who do it, above which something is what others wait for.
_MOST: Final = 0.5
_NEARLY_ALL: Final = 0.8


@dataclass(slots=True)
class Spent:
    """Where the time of a job went.

    Attributes:
        group: payloads that are computed together.
        decode_workers: what prepares items side by side.
        cores: that may be used.
        seconds: since the job began.
        reading: of them, seconds in which the next item was waited for.
        writing: of them, seconds in which the journal or the output was written.
        computed: items that were computed.
        decode_ms: sum of their :class:`~fastinfer.jobs.work.Cost`; likewise the three that follow.
    """

    group: int
    decode_workers: int
    cores: int
    seconds: float = 0.0
    reading: float = 0.0
    writing: float = 0.0
    computed: int = 0
    decode_ms: float = 0.0
    queued_ms: float = 0.0
    engine_ms: float = 0.0
    prefill_ms: float = 0.0

    def add(self, cost: Cost) -> None:
        """Count an item."""
        self.computed += 1
        self.decode_ms += cost.decode_ms
        self.queued_ms += cost.queued_ms
        self.engine_ms += cost.engine_ms
        self.prefill_ms += cost.prefill_ms


def bottleneck(spent: Spent) -> str:
    """What the job waits for: one of the sentences of this module.

    An engine for which a whole group waits on average (by Little's law: the sum of all waits by the time that passed)
    is the limit, however busy the others are. Otherwise it is who has the largest share of its time used; an engine
    that computes several batches side by side counts as used in full when one is computed all the time.
    """
    if not spent.computed or spent.seconds <= 0:
        return NOTHING
    milliseconds = spent.seconds * 1e3
    decoding = spent.decode_ms / milliseconds / spent.decode_workers if spent.decode_workers else 0.0
    engine = ENGINE
    if spent.prefill_ms:
        engine = PREFILL if spent.prefill_ms > _MOST * spent.engine_ms else REPLYING
    shares = {
        engine: min(1.0, spent.engine_ms / milliseconds),
        DECODING if spent.decode_workers < spent.cores else DECODING_ON_ALL: decoding,
        READING: spent.reading / spent.seconds,
        WRITING: spent.writing / spent.seconds,
    }
    if shares[READING] <= _MOST:
        if spent.queued_ms / milliseconds >= spent.group:
            return engine
        if decoding >= _NEARLY_ALL:
            shares[engine] = 0.0
    return max(shares, key=shares.__getitem__)
