"""A result as a row: a dict of plain values, its keys the columns in their order."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import lru_cache
from typing import Any

from fastinfer.chat.results import Reply, json_value
from fastinfer.classify.results import Classification, Timings
from fastinfer.errors import FastInferError

__all__ = ["classification_row", "json_line", "readable", "reply_row"]

_TIMINGS = tuple(field.name for field in fields(Timings))
# JSON allows these inside a string, but Python's str.splitlines and others take them for the end of a line.
_LINE_ENDS = {ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"}


def classification_row(result: Classification, *, timings: bool = True, top: int | None = None) -> dict[str, Any]:
    """A classification as a row.

    Args:
        result: what a classifier returned.
        timings: with ``decode_ms``, ``queued_ms``, ``encode_ms`` and ``score_ms`` (float) and ``batch_size`` (int);
            None where the image failed.
        top: probabilities of so many of the likeliest labels only; None takes all.

    Returns:
        ``source`` (str), ``label`` (str), ``confidence`` and ``label_mass`` (float, 0 to 1), ``probabilities`` (dict
        from label to float, best first), ``prediction_set`` (list of str), ``abstained`` (bool), ``prompt_tokens``
        (int, 0 where the image failed), ``error_type`` and ``error_message`` (str), then the timings. What the result
        lacks is None: ``label`` to ``probabilities`` where the image failed, both of the error where it did not, and
        the set without a calibration. Every string can be written as UTF-8, see :func:`readable`.
    """
    ok = result.ok
    row: dict[str, Any] = {
        "source": readable(result.source),
        "label": None if result.label is None else readable(result.label),
        "confidence": result.confidence if ok else None,
        "label_mass": result.label_mass if ok else None,
        "probabilities": None,
        "prediction_set": None,
        "abstained": result.abstained,
        "prompt_tokens": result.prompt_tokens,
        **_error(result.error),
    }
    if ok:
        shown = result.probabilities.items() if top is None else result.top(top)
        row["probabilities"] = {_readable_label(label): share for label, share in shown}
    if result.prediction_set is not None:
        row["prediction_set"] = [readable(label) for label in result.prediction_set]
    if timings:
        row |= dict.fromkeys(_TIMINGS) if result.timings is None else asdict(result.timings)
    return row


def reply_row(reply: Reply, *, timings: bool = True) -> dict[str, Any]:
    """A chat's reply as a row.

    Args:
        reply: what a chat returned.
        timings: with ``queued_ms``, ``prompt_ms``, ``predicted_ms`` and ``tokens_per_second``.

    Returns:
        ``text``, ``reasoning``, ``finish_reason`` (str), ``prompt_tokens``, ``cached_tokens``, ``completion_tokens``
        (int), ``queued_ms``, ``prompt_ms``, ``predicted_ms``, ``tokens_per_second`` (float); ``tool_calls`` (JSON text:
        a list of objects with id, name and arguments) or None where there are none; ``parsed`` (JSON text) or None
        where no schema was asked for; ``seed`` (int) or None; ``error_type`` and ``error_message`` (str) or None. Every
        string can be written as UTF-8, see :func:`readable`.
    """
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in reply.tool_calls]
    row: dict[str, Any] = {
        "text": readable(reply.text),
        "reasoning": readable(reply.reasoning),
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.usage.prompt_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "completion_tokens": reply.usage.completion_tokens,
    }
    if timings:
        row |= asdict(reply.timings)
    return row | {
        "tool_calls": _json(calls) if calls else None,
        "parsed": None if reply.parsed is None else _json(json_value(reply.parsed)),
        "seed": reply.seed,
        **_error(reply.error),
    }


def json_line(row: dict[str, Any]) -> str:
    """A row as one line of JSON, without the line's end: no string in it is taken for the end of a line."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS)


def readable(text: str) -> str:
    r"""The text with an escape for whatever UTF-8 cannot write: ``\udcff`` stands for the byte ff in a file's name.

    File names on Linux are bytes, and Python keeps those that are no text as lone surrogates, which neither Arrow nor
    a file in UTF-8 can hold.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# Every image has the same labels.
_readable_label = lru_cache(maxsize=4096)(readable)


def _json(value: object) -> str:
    return readable(json.dumps(value, ensure_ascii=False))  # whose escapes are those of JSON


def _error(error: FastInferError | None) -> dict[str, str | None]:
    if error is None:
        return {"error_type": None, "error_message": None}
    return {"error_type": type(error).__name__, "error_message": readable(str(error))}
