"""A comparison in words."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Final

from fastinfer.comparing.results import ComparedImage, Comparison, Side
from fastinfer.showing import Report, Section

__all__ = ["report"]

#: Disagreements and failures that are listed; all are in the comparison's fields.
_LISTED: Final = 20
_MIB: Final = 2**20


def report(comparison: Comparison) -> Report:
    """The comparison as a report: both sides, their figures beside each other, and what they disagree on."""
    images, labels = comparison.images, comparison.labels
    over = "no labels" if labels is None else f"{len(labels)} labels"
    return Report(
        title=f"{comparison.a.name} (a) against {comparison.b.name} (b): {len(images)} images, {over}",
        before=[_ran("a", comparison.a), _ran("b", comparison.b)],
        headings=("", "a", "b", "b against a"),
        rows=list(_rows(comparison)),
        sections=[
            Section("Agreement", list(_agreement(comparison))),
            _listed("Disagreements", comparison.disagreements),
            _listed("Not classified", comparison.failures),
            Section("Values that an engine got instead of the preset's", list(_adjustments(comparison))),
            Section("Remarks", comparison.remarks),
        ],
    )


def _ran(letter: str, side: Side) -> str:
    ran = side.provenance
    return f"{letter}: model {ran.model}, {ran.engine}, {ran.device}, preset fingerprint {ran.fingerprint}"


def _rows(comparison: Comparison) -> Iterator[tuple[str, str, str, str]]:
    a, b = comparison.a, comparison.b
    if a.accuracy is not None and b.accuracy is not None:
        yield "right", str(a.accuracy), str(b.accuracy), str(comparison.accuracy_difference)
    yield (
        "mean label mass",
        f"{a.mean_label_mass:.3f}",
        f"{b.mean_label_mass:.3f}",
        f"{round(b.mean_label_mass - a.mean_label_mass, 3) + 0.0:+.3f}",  # not -0.000
    )
    yield "images a second", f"{a.images_per_second:.1f}", f"{b.images_per_second:.1f}", str(comparison.speed)
    for what, of_a, of_b in (
        ("memory it added", a.memory, b.memory),
        ("memory on the GPU", a.gpu_memory, b.gpu_memory),
    ):
        if of_a is not None and of_b is not None:
            yield what, _mib(of_a), _mib(of_b), f"{(of_b - of_a) / _MIB:+,.0f} MiB"
    if a.failed or b.failed:
        yield "not classified", str(a.failed), str(b.failed), f"{b.failed - a.failed:+d}"


def _adjustments(comparison: Comparison) -> Iterator[str]:
    for letter, side in (("a", comparison.a), ("b", comparison.b)):
        for item in side.provenance.adjustments:
            yield f"{letter}: {item}"


def _mib(size: int) -> str:
    return f"{size / _MIB:,.0f} MiB"


def _agreement(comparison: Comparison) -> Iterator[str]:
    kappa = "not defined" if comparison.kappa is None else f"{comparison.kappa:.3f}"
    yield f"the same label: {comparison.agreement}; Cohen's kappa {kappa}"
    differences = [image.difference for image in comparison.images if image.ok]
    yield (
        f"largest difference of a probability: {max(differences):.2g}; "
        f"of an image, on average {fmean(differences):.2g}, median {median(differences):.2g}"
    )


def _listed(heading: str, images: tuple[ComparedImage, ...]) -> Section:
    lines = []
    for image in images[:_LISTED]:
        truth = "" if image.truth is None else f"truth {image.truth}, "
        # Both usually fail alike, and it is enough to read it once.
        answers = image.a.error if image.a.error and image.a == image.b else f"a {image.a}, b {image.b}"
        lines.append(f"{image.name}: {truth}{answers}")
    if len(images) > _LISTED:
        lines.append(f"and {len(images) - _LISTED} more")
    return Section(f"{heading}: {len(images)}", lines)
