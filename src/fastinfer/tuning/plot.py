"""The plot of what was tried: throughput against latency, as an image."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from fastinfer.errors import FastInferError
from fastinfer.optional import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastinfer.tuning.results import Tuned

__all__ = ["check", "draw", "png", "save"]

_DPI = 120


def check() -> None:
    """Refuse to go on without matplotlib.

    Raises:
        FastInferError: it is not installed.
    """
    require("matplotlib", extra="tune", what="The plot")


def draw(tuned: Tuned) -> Figure:
    """The plot as a figure of matplotlib's, drawn without a display and without its global state.

    Raises:
        FastInferError: matplotlib is not installed.
    """
    check()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    front = [(1e3 * point.latency, point.throughput) for point in tuned.pareto]
    axes.plot(*zip(*front, strict=True), color="tab:blue", linewidth=1, label="none is better in both")
    kinds = {"best": ("tab:green", "the best for the aim"), "given": ("tab:red", "as given")}
    for point in tuned.points:
        if point.figures is None:
            continue
        colour, label = kinds.get(point.verdict, ("tab:grey", ""))
        where = (1e3 * point.latency, point.throughput)
        axes.scatter(*where, color=colour, zorder=3, label=label or None)
        axes.annotate(point.name, where, xytext=(4, 4), textcoords="offset points", fontsize=7)
    images = tuned.given.kind == "classify"
    axes.set_xlabel("latency of an image, p95, ms" if images else "time between tokens, p95, ms")
    axes.set_ylabel("images a second" if images else "generated tokens a second")
    axes.set_title(f"{tuned.given.name}: {tuned.goal.sentence}", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.15 * max(1e3 * point.latency for point in tuned.points))  # room for the names
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write the figure as a PNG image.

    Raises:
        FastInferError: the file cannot be written.
    """
    try:
        figure.savefig(path, format="png", dpi=_DPI)
    except OSError as error:
        raise FastInferError(
            f"The plot cannot be written to {os.fspath(path)}: {error.strerror or error}.",
            hint="Name a file in a folder that exists and can be written to.",
        ) from error
