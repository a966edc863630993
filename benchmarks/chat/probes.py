"""What is measured of single replies: a long prompt that interrupts others, a request alone, the engine's counters."""

from __future__ import annotations

from dataclasses import replace

from .figures import Figures, compare, gap_figures, gaps, summary
from .sides import BOUND, LLAMA, OURS, SERVER, Bench
from .workload import Run, Workload

ALONE = ("decode_per_reply", "tokens_per_second", "ttft_p50_ms", "gap_p50_ms", "gap_p95_ms")
WHEN = ("before", "during", "all")
INTERFERENCE = tuple(f"{when}_gap_{share}_ms" for when in WHEN for share in ("p50", "p95", "max"))


def interference(bench: Bench) -> None:
    """Replies under way in all slots but one when a long prompt arrives: how long they stand still, how long it waits.

    llama-server divides its context among its slots, so it gets twice the context where the long prompt would not fit.
    """
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    roomy = p
    while roomy.slot_context < p.intruder + 64:
        roomy = replace(roomy, context=2 * roomy.context)
    with bench.open(**{SERVER: lambda: bench.server(roomy), OURS: bench.ours}) as sides:
        for _ in range(bench.rounds):
            others = bench.requests(p.slots - 1, p.prompt // 4, p.running_reply)
            intruder = bench.requests(1, p.intruder, 16)[0]
            work = Workload(others, p.slots - 1, intruder, min(32, p.running_reply // 8))
            rounds.append({name: interrupted(bench.run(name, side, work)) for name, side in bench.in_turn(sides)})
            bench.keep("interference", compare(rounds, (*INTERFERENCE, "intruder_ttft_ms")))


def interrupted(run: Run) -> Figures:
    """Times between pieces before the long prompt came, from then to its first token, and over all."""
    intruder = run.intruder
    if intruder is None or not intruder.pieces:
        raise RuntimeError(f"the long prompt got no reply: {intruder and intruder.error}")
    came, first = intruder.started, intruder.pieces[0]
    good = [record for record in run.records if record.pieces]
    settled = max(record.pieces[0] for record in good)
    return {
        **gap_figures(gaps(good, settled, came), "before_gap"),
        **gap_figures(gaps(good, came, first), "during_gap"),
        **gap_figures(gaps(good, settled), "all_gap"),
        "intruder_ttft_ms": round((first - came) * 1000, 1),
        "intruder_prompt_tokens": intruder.counts.get("prompt_tokens", 0),
        "pieces_meanwhile": sum(came < at <= first for record in good for at in record.pieces),
        "ended_meanwhile": sum(record.pieces[-1] < first for record in good),
        "failed": len(run.records) - len(good),
        "cores_elsewhere": round(run.elsewhere, 2),
    }


def alone(bench: Bench) -> None:
    """One request at a time: tokens a second after the first, and the wait for it."""
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    prompt = p.prompt // 4 if p.gpu else p.prompt
    with bench.open(**{SERVER: bench.server, OURS: bench.ours, LLAMA: bench.llama}) as sides:
        for _ in range(bench.rounds):
            requests = bench.requests(1, prompt, p.alone_reply)
            one = {name: summary(bench.run(name, side, Workload(requests, 1))) for name, side in bench.in_turn(sides)}
            if BOUND in bench.wanted:
                one[BOUND] = bench.bound(prompt, p.alone_reply, [1])[1]
            rounds.append(one)
            bench.keep("alone", compare(rounds, ALONE))


def python(bench: Bench) -> None:
    """What a step of ours spends in Python, in sampling and in waiting for the engine, by the engine's own counters.

    ``llm.engine_profile()`` gives ``steps`` and totals of ``..._seconds``: of steps, and of what they do in llama.cpp.
    """
    p = bench.profile
    rounds: list[dict[str, Figures]] = []
    if OURS not in bench.wanted:
        return
    side = bench.ours()
    try:
        bench.warm_up(side)
        for _ in range(bench.rounds):
            before = side.ask("engine_profile")
            run = bench.run(OURS, side, Workload(bench.requests(p.slots, p.prompt // 4, p.reply), p.slots))
            after = side.ask("engine_profile")
            spent = {name: after[name] - before[name] for name in after}
            steps = max(1, spent["steps"])
            figures: Figures = {
                "steps": steps,
                "graphs_reused": spent.get("graphs_reused", 0),
                "tokens_per_second": summary(run)["tokens_per_second"],
            }
            parts = {name.removesuffix("_seconds"): value for name, value in spent.items() if "_seconds" in name}
            if "step" in parts:  # what is left of a step is Python
                parts["python"] = 2 * parts["step"] - sum(parts.values())
            figures |= {f"{name}_us_a_step": round(1e6 * value / steps, 1) for name, value in parts.items()}
            rounds.append({OURS: figures})
            bench.keep("python", compare(rounds, ()))
    finally:
        side.close()
