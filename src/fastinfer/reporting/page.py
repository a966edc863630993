"""A report as HTML: one file that needs nothing else, or a part of a notebook."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fastinfer import __version__
from fastinfer.errors import FastInferError
from fastinfer.replacement import replace_file
from fastinfer.reporting.names import natural
from fastinfer.reporting.results import ClassificationReport, LabelFigures
from fastinfer.reporting.words import amount, calibration_sentence, headline, interval, level, percent

__all__ = ["Matrix", "document", "fragment", "matrix_of", "save"]

#: Labels that the matrix has at most, and that are listed by name; with more, those with most mistakes come first.
_IN_MATRIX: Final = 40
_LISTED: Final = 1000
_PAIRS: Final = 10
#: Labels that are longer than this stand upright above the matrix.
_SHORT: Final = 4
#: Labels of a matrix that leaves room beside it.
_SMALL: Final = 12


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix.

    Attributes:
        labels: of its rows and columns.
        counts: by truth and given label; those that are missing are 0.
        support: images of each label.
        left_out: labels that it has no room for.
        upright: the labels stand upright above the columns.
        small: there is room beside it.
    """

    labels: Sequence[str]
    counts: Mapping[tuple[str, str], int]
    support: Mapping[str, int]
    left_out: int
    upright: bool
    small: bool


def document(report: ClassificationReport) -> str:
    """The whole HTML document; equal reports give equal text."""
    return _templates().get_template("document.html.jinja").render(_content(report))


def fragment(report: ClassificationReport) -> str:
    """The same content for a notebook, with styles that change nothing outside of it."""
    return _templates().get_template("fragment.html.jinja").render(_content(report))


def save(report: ClassificationReport, path: str | os.PathLike[str]) -> Path:
    """See :meth:`fastinfer.reporting.ClassificationReport.save`."""
    target = Path(path)
    try:
        replace_file(target, document(report).encode("utf-8"))
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links; a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise FastInferError(
            f"The report cannot be written to {target}: {reason}.",
            hint="Name a file in a folder that exists and can be written to.",
        ) from error
    return target


def matrix_of(report: ClassificationReport) -> Matrix:
    """The confusion matrix of a report, or the part of it that has most mistakes."""
    mistakes: Counter[str] = Counter()
    for pair in report.confusions:
        mistakes[pair.truth] += pair.count * (pair.truth != pair.given)
        mistakes[pair.given] += pair.count * (pair.truth != pair.given)
    chosen = sorted(mistakes, key=lambda label: (-mistakes[label], natural(label)))[:_IN_MATRIX]
    return Matrix(
        labels=sorted(chosen, key=natural),
        counts={(pair.truth, pair.given): pair.count for pair in report.confusions},
        support={label.label: label.support for label in report.labels},
        left_out=len(mistakes) - len(chosen),
        upright=any(len(label) > _SHORT for label in chosen),
        small=len(chosen) <= _SMALL,
    )


def _content(report: ClassificationReport) -> dict[str, Any]:
    wrong = [pair for pair in report.confusions if pair.truth != pair.given]
    return {
        "report": report,
        "version": __version__,
        # So that the headings of two reports in one notebook do not have the same names.
        "mark": "r" + hashlib.sha256(json.dumps(report.to_dict()).encode()).hexdigest()[:8],
        "headline": headline(report),
        "calibration_sentence": calibration_sentence(report),
        "level": level(report.confidence),
        "labels": _ordered(report),
        "labels_left_out": max(0, len(report.labels) - _LISTED),
        "pairs": wrong[:_PAIRS],
        "pairs_left_out": max(0, len(wrong) - _PAIRS),
        "matrix": matrix_of(report) if report.judged else None,
    }


def _ordered(report: ClassificationReport) -> Sequence[LabelFigures]:
    """By name; with many labels those that need a look first."""
    if len(report.labels) <= _IN_MATRIX:
        return report.labels
    if report.judged:
        return sorted(report.labels, key=lambda label: 2.0 if label.f1 is None else label.f1.value)[:_LISTED]
    return sorted(report.labels, key=lambda label: -label.given)[:_LISTED]


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fastinfer.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(percent=percent, interval=interval, amount=amount)
    return environment
