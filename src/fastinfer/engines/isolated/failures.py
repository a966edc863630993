"""Errors on their way out of an engine's process."""

from __future__ import annotations

from typing import Any, Final

from fastinfer import errors
from fastinfer.errors import EngineError, FastInferError

__all__ = ["EngineProcessError", "read_failure", "write_failure"]

_PLAIN: Final = {"TypeError": TypeError, "ValueError": ValueError}


class EngineProcessError(Exception):
    """What an engine's process raised or died of, as the ``__cause__`` of an error of this library."""


def write_failure(error: BaseException) -> dict[str, Any]:
    """An error as a JSON object."""
    cause = error.__cause__
    body: dict[str, Any] = {
        "type": type(error).__name__,
        "message": error.message if isinstance(error, FastInferError) else str(error),
        "hint": error.hint if isinstance(error, FastInferError) else None,
        "cause": None if cause is None else f"{type(cause).__name__}: {cause}",
    }
    if isinstance(error, errors.PromptTooLongError):
        body |= {"tokens": error.tokens, "limit": error.limit}
    return body


def read_failure(body: dict[str, Any]) -> Exception:
    """The error of such an object; its ``__cause__`` says what was raised where it came from."""
    name, message, hint = str(body.get("type")), str(body.get("message")), body.get("hint")
    kind = getattr(errors, name, None)
    error: Exception
    if isinstance(kind, type) and issubclass(kind, errors.PromptTooLongError):
        error = kind(message, tokens=int(body["tokens"]), limit=int(body["limit"]), hint=hint)
    elif isinstance(kind, type) and issubclass(kind, FastInferError):
        error = kind(message, hint=hint)
    elif name in _PLAIN:
        error = _PLAIN[name](message)
    else:
        error = EngineError(f"The engine's process failed: {name}: {message}")
    if body.get("cause") is not None:
        error.__cause__ = EngineProcessError(f"in the engine's process: {body['cause']}")
    return error
