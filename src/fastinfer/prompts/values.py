"""Checks of what callers put into messages and tools: texts and JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastinfer.errors import MessageError

__all__ = ["checked_json", "checked_text"]

_DEEPEST = 64


def checked_text(value: object, where: str) -> str:
    """The text itself.

    Args:
        value: what the caller passed.
        where: how errors call it, for example ``"Message 2: content"``.

    Raises:
        MessageError: it is no str, or holds half a surrogate pair, which no tokenizer can read.
    """
    if not isinstance(value, str):
        raise MessageError(f"{where} is of type {type(value).__name__}.", hint="Pass a str.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"{where} holds a lone surrogate, U+{ord(value[error.start]):04X}, at position {error.start}.",
            hint="Decode the text with errors='replace', or remove the character.",
        ) from error
    return str(value)


def checked_json(value: object, where: str, depth: int = 0) -> Any:
    """A copy of a JSON value: dicts with str keys, lists, texts, numbers, truth values and None; tuples become lists.

    Args:
        value: what the caller passed.
        where: how errors call it.
        depth: levels above it; at most 64 are read.

    Raises:
        MessageError: something in it is not of these types, or it is nested too deeply.
    """
    if depth > _DEEPEST:
        raise MessageError(f"{where} is nested more than {_DEEPEST} levels deep.", hint="Pass a flatter value.")
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, Mapping):
        return {checked_text(k, f"{where}: a key"): checked_json(v, where, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [checked_json(item, where, depth + 1) for item in value]
    raise MessageError(
        f"{where} holds a {type(value).__name__}, which JSON has no form for.",
        hint="Use dicts with str keys, lists, texts, numbers, truth values and None.",
    )
