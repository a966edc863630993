"""What is measured of many conversations at once: throughput, the number of slots, a shared beginning."""

from __future__ import annotations

from .figures import Figures, compare, percentile, summary
from .sides import BOUND, LLAMA, OURS, SERVER, Bench, Side, conversation
from .workload import Request, Workload

SPEED = (
    "tokens_per_second",
    "ttft_p50_ms",
    "ttft_p95_ms",
    "gap_p50_ms",
    "gap_p95_ms",
    "gap_max_ms",
    "decode_per_reply",
)
PREFIX = tuple(f"{kind}_ttft_{share}_ms" for kind in ("shared", "again", "distinct") for share in ("p50", "p95"))


def throughput(bench: Bench) -> None:
    """As many clients as slots, several requests each: tokens a second over all, and what each reply sees of it."""
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    with bench.open(**{SERVER: bench.server, OURS: bench.ours, LLAMA: bench.llama}) as sides:
        for _ in range(bench.rounds):
            requests = bench.requests(p.requests, p.prompt, p.reply)
            one: dict[str, Figures] = {}
            for name, side in bench.in_turn(sides):
                if name == LLAMA:
                    one[name] = summary(bench.run(name, side, Workload(requests[: p.serial_requests], 1)))
                else:
                    one[name] = summary(bench.run(name, side, Workload(requests, p.slots)))
                if name == OURS:
                    again = bench.requests(p.requests, p.prompt, p.reply)
                    run = bench.run(name, side, Workload(again, p.slots, batch=True))
                    tokens = sum(record.counts["completion_tokens"] for record in run.records)
                    one["ours_chat_many"] = {"tokens_per_second": round(tokens / run.seconds, 2)}
            if BOUND in bench.wanted:
                one[BOUND] = bench.bound(p.prompt, p.reply, [p.slots])[p.slots]
            rounds.append(one)
            bench.keep("throughput", compare(rounds, SPEED))


def slots(bench: Bench) -> None:
    """Ours with more and more slots and as many clients, against llama-server with the preset's number."""
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    with bench.open(**{SERVER: bench.server}) as peers:
        for _ in range(bench.rounds):
            one: dict[str, Figures] = {}
            rounds.append(one)

            def server(name: str, one: dict[str, Figures] = one) -> None:
                for side in peers.values():
                    requests = bench.requests(p.requests, p.prompt, p.reply)
                    one[name] = summary(bench.run(name, side, Workload(requests, p.slots)))

            server(SERVER)
            for count in bench.slots:
                wider = p.with_slots(count)
                with bench.open(**{f"{OURS}_at_{count}": lambda wider=wider: bench.ours(wider)}) as sides:
                    for name, side in sides.items():
                        # Four requests a client, fewer where that would take minutes, never less than two.
                        total = max(2 * count, min(4 * count, 4 * p.requests))
                        requests = bench.requests(total, p.prompt, p.reply)
                        one[name] = summary(bench.run(name, side, Workload(requests, count)))
                bench.keep("slots", compare(rounds, SPEED))
            server(f"{SERVER}_afterwards")
            bench.keep("slots", compare(rounds, SPEED))


def prefix(bench: Bench) -> None:
    """Conversations that start together: with one system prompt, with it once more, and each with its own."""
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    with bench.open(**{SERVER: bench.server, OURS: bench.ours}) as sides:
        for _ in range(bench.rounds):
            text = bench.prompts.text
            common = text(p.system)
            systems = {
                "shared": [common] * p.slots,
                "again": [common] * p.slots,
                "distinct": [text(p.system) for _ in range(p.slots)],
            }
            work = {
                kind: [Request(conversation(system, text(p.question)), 16) for system in chosen]
                for kind, chosen in systems.items()
            }
            rounds.append({name: _first_tokens(bench, name, side, work) for name, side in bench.in_turn(sides)})
            bench.keep("prefix", compare(rounds, PREFIX))


def _first_tokens(bench: Bench, name: str, side: Side, work: dict[str, list[Request]]) -> Figures:
    found: Figures = {}
    for kind, requests in work.items():
        run = bench.run(name, side, Workload(requests, bench.profile.slots))
        waits = [(r.pieces[0] - r.started) * 1000 for r in run.records if r.pieces]
        found |= {
            f"{kind}_ttft_p50_ms": round(percentile(waits, 0.5), 1),
            f"{kind}_ttft_p95_ms": round(percentile(waits, 0.95), 1),
            f"{kind}_prompt_tokens": sum(r.counts.get("prompt_tokens", 0) for r in run.records),
            f"{kind}_cached_tokens": sum(r.counts.get("cached_tokens", 0) for r in run.records),
            f"{kind}_failed": sum(r.error is not None for r in run.records),
            f"{kind}_cores_elsewhere": round(run.elsewhere, 2),
        }
    return found
