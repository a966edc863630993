"""The settings of the presets that are measured, and how much work each scenario does with them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    """What all sides are opened with, in llama.cpp's terms, and the sizes of the work.

    Attributes:
        preset: the name ours is opened with.
        context: tokens of all slots together (-c).
        batch: -b.
        micro_batch: -ub.
        kv: type of the KV cache, keys and values.
        gpu: every layer on the GPU, or none.
        threads: for the peers, where they would not know better; 0 leaves their default.
        slots: conversations at once.
        server_flags: more flags of llama-server that the preset stands for.
        prompt: tokens of an ordinary prompt.
        reply: tokens of an ordinary reply.
        requests: of a round of throughput.
        serial_requests: of these, for the side that answers one at a time.
        alone_reply: tokens of the reply in `alone`.
        system: tokens of the shared system prompt in `prefix`.
        question: tokens of the user's turn there.
        intruder: tokens of the long prompt in `interference`.
        running_reply: tokens of the replies it interrupts.
    """

    preset: str
    context: int
    batch: int
    micro_batch: int
    kv: str
    gpu: bool
    threads: int
    slots: int
    server_flags: tuple[str, ...]
    prompt: int
    reply: int
    requests: int
    serial_requests: int
    alone_reply: int
    system: int
    question: int
    intruder: int
    running_reply: int

    @property
    def slot_context(self) -> int:
        return self.context // self.slots

    def with_slots(self, slots: int) -> Profile:
        """The same context for each slot, for another number of them."""
        return replace(self, slots=slots, context=slots * self.slot_context)

    def quick(self) -> Profile:
        """Little work, to see whether everything runs."""
        return replace(
            self,
            prompt=48,
            reply=12,
            requests=self.slots + 2,
            serial_requests=2,
            alone_reply=24,
            system=200,
            question=16,
            intruder=400,
            running_reply=100,
        )


PROFILES = {
    "balanced": Profile(
        preset="balanced",
        context=32_768,
        batch=4096,
        micro_batch=2048,
        kv="q8_0",
        gpu=True,
        threads=0,
        slots=8,
        server_flags=("--cache-reuse", "1024"),
        prompt=512,
        reply=128,
        requests=32,
        serial_requests=4,
        alone_reply=256,
        system=2000,
        question=48,
        intruder=4096,
        running_reply=384,
    ),
    "embedded": Profile(
        preset="embedded",
        context=8192,
        batch=2048,
        micro_batch=512,
        kv="f16",
        gpu=False,
        threads=2,
        slots=4,
        server_flags=(),
        prompt=128,
        reply=64,
        requests=16,
        serial_requests=4,
        alone_reply=256,
        system=500,
        question=24,
        intruder=1024,
        running_reply=256,
    ),
}
