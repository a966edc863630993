"""Opens the sides of a comparison with the same settings, and gives them the same work."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .bound import batched_bench
from .child import Child
from .figures import Figures, cpu_seconds, save
from .ours import open_ours
from .profile import Profile
from .prompts import Prompts
from .serial import open_serial
from .server import LlamaServer
from .workload import Message, Request, Run, Workload

OURS, SERVER, LLAMA, BOUND = "ours", "llama_server", "llama", "batched_bench"


class Side(Protocol):
    """What a workload can be given to."""

    info: dict[str, Any]
    pid: int

    def run(self, workload: Workload) -> Run: ...

    def close(self) -> None: ...


@dataclass
class Bench:
    """The settings of this run of the benchmark, and its result file.

    Attributes:
        model: the GGUF file.
        binaries: the folder with llama-server and llama-batched-bench.
        profile: what all sides are opened with.
        template: a Jinja file for all sides, or None for the model's own template.
        changes: further changes of ours to its preset.
        clients: how ours is driven: threads or asyncio.
        limit: seconds that a start, or a workload, may take.
        wanted: the sides to measure.
        rounds: how often.
        slots: the numbers of slots in the scenario of that name.
        server_flags: more flags for llama-server.
        prompts: where texts come from.
        out: the result file.
        content: what is in it.
    """

    model: Path
    binaries: Path
    profile: Profile
    template: Path | None
    changes: dict[str, Any]
    clients: str
    limit: float
    wanted: frozenset[str]
    rounds: int
    slots: Sequence[int]
    server_flags: Sequence[str]
    prompts: Prompts
    out: Path
    content: dict[str, Any]
    _order: random.Random = field(default_factory=lambda: random.Random(1))

    def server(self, profile: Profile | None = None, flags: Sequence[str] = ()) -> Side:
        """A llama-server with the profile's flags."""
        log = self.out.with_suffix(".server.log")
        flags = (*flags, *self.server_flags)
        return LlamaServer(self.binaries, self.model, profile or self.profile, self.template, log, self.limit, flags)

    def ours(self, profile: Profile | None = None) -> Child:
        """fastinfer with the profile's preset; only what differs from the preset is given."""
        changes = dict(self.changes)
        if profile is not None and profile.slots != self.profile.slots:
            changes |= {"parallel": profile.slots, "n_ctx": profile.context}
        if self.template is not None:
            changes["chat_template"] = str(self.template)
        options = {"preset": self.profile.preset, "model": str(self.model), "changes": changes}
        return Child(open_ours, {**options, "clients": self.clients}, self.limit)

    def llama(self) -> Side:
        """``Llama`` with the context of one slot."""
        p = self.profile
        options = {"model": str(self.model), "context": p.slot_context, "batch": p.batch, "micro_batch": p.micro_batch}
        options |= {"kv": p.kv, "gpu": p.gpu, "threads": p.threads}
        options["template"] = self.template.read_text("utf-8") if self.template else None
        return Child(open_serial, options, self.limit)

    def bound(self, prompt: int, reply: int, sequences: Sequence[int]) -> dict[int, Figures]:
        """llama-batched-bench with the profile's flags."""
        return batched_bench(self.binaries, self.model, self.profile, prompt, reply, sequences)

    @contextmanager
    def open(self, **openers: Callable[[], Side]) -> Iterator[dict[str, Side]]:
        """Those of the sides that are wanted, opened and warmed up; closed at the end."""
        with ExitStack() as stack:
            sides: dict[str, Side] = {}
            for name, opener in openers.items():
                if name.split("_at_")[0] not in self.wanted:
                    continue
                begun = time.perf_counter()
                side = opener()
                stack.callback(side.close)
                self.content.setdefault("sides", {}).setdefault(name, side.info)
                self.warm_up(side)
                print(f"  {name} is ready after {time.perf_counter() - begun:.1f} s", file=sys.stderr)
                sides[name] = side
            yield sides

    def warm_up(self, side: Side) -> None:
        """A few replies that are not measured; the first ever also shows what the chat template adds."""
        text = self.prompts.text(32)
        run = side.run(Workload([Request([{"role": "user", "content": text}], 4)], 1))
        failed = next((record.error for record in run.records if record.error), None)
        if failed:
            raise RuntimeError(failed)
        if not self.prompts.overhead:
            seen = run.records[0].counts.get("prompt_tokens", 0)
            self.prompts.overhead = max(0, int(seen) - self.prompts.count(text))
        requests = self.requests(self.profile.slots, max(16, self.profile.prompt // 4), 8)
        side.run(Workload(requests, self.profile.slots))

    def run(self, name: str, side: Side, workload: Workload) -> Run:
        """Give a side a workload; what went wrong is kept in the result file."""
        own = (os.getpid(), side.pid)
        before = cpu_seconds(own)
        run = side.run(workload)
        run.elsewhere = max(0.0, cpu_seconds(own) - before) / run.seconds
        errors = {r.error for r in (*run.records, run.intruder) if r is not None and r.error}
        if errors:
            self.content.setdefault("errors", {}).setdefault(name, []).extend(sorted(errors)[:5])
        return run

    def requests(self, count: int, prompt: int, reply: int) -> list[Request]:
        """New requests of one user message each."""
        return [Request(self.prompts.user(prompt), reply) for _ in range(count)]

    def in_turn(self, sides: dict[str, Side]) -> list[tuple[str, Side]]:
        """The sides in this round's order, so that none always comes first."""
        order = list(sides.items())
        self._order.shuffle(order)
        return order

    def keep(self, scenario: str, figures: dict[str, Any]) -> None:
        """Put a scenario's figures so far into the result file."""
        self.content[scenario] = figures
        save(self.out, self.content)


def conversation(system: str, user: str) -> list[Message]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
