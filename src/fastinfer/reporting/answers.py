"""Results in any form, one at a time and in one shape."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastinfer.classify import Classification
from fastinfer.errors import FastInferError
from fastinfer.reporting.files import rows_in
from fastinfer.reporting.names import shown

__all__ = ["Answer", "HasResults", "Results", "answers"]

_ROUNDING: Final = 1e-6
_COLUMNS: Final = "Rows need source or path, label and confidence."
_CALL: Final = "Pass the results of classify_many, a folder job, or the path of a results file."


class HasResults(Protocol):
    """What a folder job gives back: its rows can be gone through."""

    def results(self) -> Iterable[Mapping[str, Any]]:
        """The rows, in order."""
        ...


Results = Iterable[Classification | Mapping[str, Any]] | HasResults | str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a report needs of one result.

    Attributes:
        name: the image's path where there is one, else its source, as it was given.
        label: the likeliest label; None if the image failed.
        confidence: its probability, 0 to 1.
        probabilities: probability of each label; may be empty.
        prediction_set: the labels that calibration leaves; None without one.
        abstained: better not to answer.
        failure: the kind of error and what it said; None if the image was classified.
        ran: what made it, in a line; None where that is not known.
    """

    name: str
    label: str | None
    confidence: float
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...] | None
    abstained: bool
    failure: tuple[str, str] | None
    ran: str | None


def answers(results: Results) -> Iterator[Answer]:
    """Go through results once, holding one at a time.

    Args:
        results: Classifications, rows of the columns that results files have, a folder job, or such a file.

    Raises:
        FastInferError: this is none of them, or a row lacks a value or has an impossible one.
    """
    for place, row in enumerate(_rows(results)):
        if isinstance(row, Classification):
            yield _of_classification(row)
        elif isinstance(row, Mapping):
            yield _of_row(row, place)
        else:
            raise FastInferError(f"Result {place} is a {type(row).__name__}, not a Classification.", hint=_CALL)


def _rows(results: Results) -> Iterable[object]:
    if isinstance(results, (str, os.PathLike)):
        return rows_in(results)
    listed = getattr(results, "results", None)
    if callable(listed):
        found: Iterable[object] = listed()
        return found
    if isinstance(results, Iterable) and not isinstance(results, (bytes, Mapping)):
        return results
    raise FastInferError(f"The results are a {type(results).__name__}.", hint=_CALL)


def _of_classification(result: Classification) -> Answer:
    ran = result.provenance
    return Answer(
        name=result.source,
        label=result.label,
        confidence=result.confidence,
        probabilities=result.probabilities,
        prediction_set=result.prediction_set,
        abstained=result.abstained,
        failure=None if result.error is None else (type(result.error).__name__, shown(str(result.error))),
        ran=_ran(ran.preset, ran.model, ran.engine, ran.device, ran.fingerprint),
    )


def _of_row(row: Mapping[str, Any], place: int) -> Answer:
    name = row.get("path") or row.get("source")
    if not isinstance(name, str):
        raise FastInferError(f"Result {place} has neither a path nor a source.", hint=_COLUMNS)
    failure = _failure(row)
    ran = row.get("provenance")
    made_by = None
    if isinstance(ran, Mapping):
        made_by = _ran(*(ran.get(key) for key in ("preset", "model", "engine", "device", "fingerprint")))
    elif row.get("configuration"):
        made_by = shown(f"configuration {row['configuration']}")
    if failure is not None:
        return Answer(name, None, 0.0, {}, None, False, failure, made_by)
    label = row.get("label")
    if not isinstance(label, str) or not label:
        raise FastInferError(f"Result {place}, {shown(name)}, has no label and no error.", hint=_COLUMNS)
    chosen = _parsed(row, "prediction_set", place)
    return Answer(
        name=name,
        label=label,
        confidence=_probability(row.get("confidence"), "confidence", place),
        probabilities=_probabilities(_parsed(row, "probabilities", place), place),
        prediction_set=None if chosen is None else tuple(map(str, chosen)),
        abstained=row.get("abstained") in (True, "true", "True", "1"),
        failure=None,
        ran=made_by,
    )


def _failure(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The error of a row, in columns of its own or as an object, which is how JSON of single results has it."""
    error = row.get("error")
    if isinstance(error, Mapping):
        kind, message = error.get("type"), error.get("message")
    else:
        kind, message = row.get("error_type"), row.get("error_message")
    return (shown(str(kind)), shown(str(message or ""))) if kind else None


def _parsed(row: Mapping[str, Any], column: str, place: int) -> Any:
    """A value that CSV keeps as JSON text."""
    value = row.get(column)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except ValueError as error:
        raise FastInferError(f"Result {place}: {column} is not JSON.", hint=_COLUMNS) from error


def _probabilities(value: Any, place: int) -> dict[str, float]:
    try:
        pairs = dict(value or {})  # a map of Arrow comes as pairs
    except (TypeError, ValueError) as error:
        raise FastInferError(f"Result {place}: probabilities are no labels with numbers.", hint=_COLUMNS) from error
    return {str(label): _probability(number, "a probability", place) for label, number in pairs.items()}


def _probability(value: Any, what: str, place: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not -_ROUNDING <= number <= 1 + _ROUNDING:
        raise FastInferError(f"Result {place}: {what} is {value!r}, not a number from 0 to 1.", hint=_COLUMNS)
    return min(max(number, 0.0), 1.0)


def _ran(preset: Any, model: Any, engine: Any, device: Any, fingerprint: Any) -> str:
    return shown(f"preset {preset}, model {model}, {engine} on {device}, fingerprint {fingerprint}")
