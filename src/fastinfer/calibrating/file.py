"""Calibrations read from JSON, and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastinfer.calibrating.calibration import Calibration, Quality
from fastinfer.calibrating.temperature import HIGHEST, LOWEST
from fastinfer.classify.labels import check_labels
from fastinfer.errors import FastInferError, PresetError

__all__ = ["parse", "read"]

_AGAIN: Final = "Give a file that Calibration.save() wrote, or calibrate again."

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Quality(_Checked):
    log_loss: Annotated[float, Field(ge=0)]
    calibration_error: _Share


class _Content(_Checked):
    format: Literal["fastinfer calibration"]
    version: Literal[1]
    labels: Annotated[list[str], Field(min_length=2)]
    temperature: Annotated[float, Field(ge=LOWEST, le=HIGHEST)]
    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: float
    counts: list[_Count]
    right: _Count
    skipped: _Count
    before: _Quality
    after: _Quality
    model: str
    prompt: str
    preset_fingerprint: str
    scores: Annotated[list[float], Field(min_length=1)]
    fingerprint: str


def parse(data: Mapping[str, Any]) -> Calibration:
    """The calibration that ``Calibration.to_dict`` wrote.

    Raises:
        PresetError: a value is missing, unknown, out of its range, or does not fit the others.
    """
    try:
        return _calibration(_Content.model_validate(dict(data)))
    except (TypeError, ValueError) as error:
        raise PresetError(f"A calibration cannot be read: {_first(error)}.", hint=_AGAIN) from error


def read(path: str | os.PathLike[str]) -> Calibration:
    """The calibration in a file.

    Raises:
        PresetError: the file cannot be read, or is damaged or none.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read: {error.strerror or error}.", hint="Check that it is a file and its permissions."
        ) from error
    except ValueError as error:  # not UTF-8, or a NUL in the path
        raise PresetError(f"{path} is not a calibration: it is no UTF-8 text.", hint=_AGAIN) from error
    try:
        return _calibration(_Content.model_validate_json(text))
    except ValueError as error:
        raise PresetError(f"{path} is not a calibration: {_first(error)}.", hint=_AGAIN) from error


def _calibration(content: _Content) -> Calibration:
    """The calibration of checked values; ValueError where they do not fit each other."""
    if content.scores != sorted(content.scores):
        raise ValueError("scores: they are not sorted")
    if len(content.counts) != len(content.labels) or sum(content.counts) != len(content.scores):
        raise ValueError("counts: they are not the labels' and scores' counts")
    if content.right > len(content.scores):
        raise ValueError("right: there are fewer images")
    try:
        check_labels(content.labels)
        values = content.model_dump(include={field.name for field in fields(Calibration) if field.init})
        calibration = Calibration(
            **{
                **values,
                "labels": tuple(content.labels),
                "scores": tuple(content.scores),
                "counts": tuple(content.counts),
                "before": Quality(**values["before"]),
                "after": Quality(**values["after"]),
            }
        )
    except FastInferError as error:
        raise ValueError(str(error).removesuffix(".")) from error
    if calibration.threshold != content.threshold or calibration.fingerprint != content.fingerprint:
        raise ValueError("fingerprint: it is not that of the values, which were changed")
    return calibration


def _first(error: Exception) -> str:
    """What is wrong, in the first place of several."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, found["loc"]))
    return f"{where}: {found['msg']}" if where else str(found["msg"])
