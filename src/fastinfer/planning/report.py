"""How a plan is shown: a table with what follows from it, and the memory as a bar."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from fastinfer.planning.need import Place, size_text
from fastinfer.showing import Report, Section

if TYPE_CHECKING:
    from fastinfer.planning.result import Plan, PlanStep

__all__ = ["bar", "report"]

_COLOURS: Final = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d")


def report(plan: Plan) -> Report:
    """The plan as a table; the memory that decides comes first."""
    other: Place = "host" if plan.place == "gpu" else "gpu"
    rows = [
        (part.name, "GPU" if part.place == "gpu" else "host", size_text(part.size), part.detail)
        for part in (*plan.parts_of(plan.place), *plan.parts_of(other))
    ]
    bounds = [f"{bound.name}: {bound.value:,.0f} {bound.unit} ({bound.why})" for bound in plan.bounds]
    adjustments = [f"{each.field}: {each.asked} becomes {each.used}; {each.why}" for each in plan.adjustments]
    return Report(
        title=f"{plan.kind} preset {plan.preset!r} with {plan.model}",
        before=[plan.verdict],
        headings=("part", "memory", "size", "of"),
        rows=rows,
        sections=(
            Section("What would make it fit", [_say(step) for step in plan.steps]),
            Section("Cards that it fits", [", ".join(plan.cards)] if plan.cards and not plan.fits else []),
            Section("The hardware allows at most", bounds),
            Section("What the engine gets otherwise", adjustments),
            Section("Remarks", plan.remarks),
        ),
    )


def bar(plan: Plan) -> str:
    """HTML: the parts of the memory that decides side by side, with a mark at what is available."""
    whole = max(plan.size, plan.device.available, 1)
    cells = []
    for index, part in enumerate(plan.parts_of(plan.place)):
        colour = _COLOURS[index % len(_COLOURS)]
        title = html.escape(f"{part.name}: {size_text(part.size)}")
        width = 10_000 * part.size // whole / 100  # rounded down, so that together they are never too wide
        cells.append(f'<div title="{title}" style="width:{width}%;background:{colour}"></div>')
    limit = 100 * min(1.0, plan.device.available / whole)
    title = html.escape(f"{size_text(plan.device.available)} available")
    mark = f'<div title="{title}" style="position:absolute;left:{limit:.2f}%;height:1.4em;border-left:2px solid #000">'
    frame = "position:relative;display:flex;height:1.4em;max-width:60em;background:#eee"
    return f'<div style="{frame}">{"".join(cells)}{mark}</div></div>'


def _say(step: PlanStep) -> str:
    fits = "fits" if step.fits else "not enough" if step.taken else "no less, so it is passed over"
    return f"{step.text}: {size_text(step.size)}, {fits}. {step.why}".rstrip()
