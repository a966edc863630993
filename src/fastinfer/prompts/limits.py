"""What a chat template may use up: time, memory, and how large a value may be that Python writes or compares."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

__all__ = ["MAX_CHARACTERS", "MAX_SECONDS", "charge", "check_size", "check_time", "limited", "paid", "weigh"]

MAX_SECONDS = 10.0
#: Of a prompt, and of every text on the way to it.
MAX_CHARACTERS = 16 << 20
#: All that a rendering makes, also what it lets go again: what it holds on to cannot be known. A template that joins a
#: conversation message by message makes half as many times its length as there are messages.
MAX_BYTES = 256 << 20
_MAX_PARTS = 1 << 18
_DEEPEST = 128
_A_STRING = 64


class _Allowance:
    """What is left of time and memory."""

    __slots__ = ("deadline", "room")

    def __init__(self) -> None:
        self.deadline = time.monotonic() + MAX_SECONDS
        self.room = MAX_BYTES


_allowance: ContextVar[_Allowance | None] = ContextVar("_allowance", default=None)


@contextmanager
def limited() -> Iterator[None]:
    """Within it, the other functions count; a :class:`SecurityError` where a limit is reached."""
    token = _allowance.set(_Allowance())
    try:
        yield
    finally:
        _allowance.reset(token)


def check_time() -> None:
    """Raise where the time is over."""
    allowance = _allowance.get()
    if allowance is not None and time.monotonic() > allowance.deadline:
        raise SecurityError(f"it runs for more than {MAX_SECONDS:g} s")


def charge(size: int) -> None:
    """Count so many bytes; raise where they are too many together."""
    allowance = _allowance.get()
    if allowance is not None:
        allowance.room -= size
        if allowance.room < 0:
            raise SecurityError(f"it makes more than {MAX_BYTES >> 20} MiB of texts and lists")


def check_size(characters: int, what: str) -> None:
    """Raise where a text would have too many characters, or a list too many items, before it is made."""
    if characters > MAX_CHARACTERS:
        raise SecurityError(f"{what} is too large")


def paid(value: Any) -> Any:
    """The value, with its own bytes counted; an iterator is one that watches the clock."""
    if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)):
        charge(value.__sizeof__())
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
            charge(_A_STRING * len(value))  # as a text that is split makes them
    elif isinstance(value, Iterator):
        return _timed(value)
    return value


def _timed(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        check_time()
        yield value


def weigh(value: Any) -> int:
    """How many characters a value has about when it is written, what is in it several times each time.

    A list of twenty levels, each with the one below twice, is a million lists to ``str``, ``==`` and ``json.dumps``.

    Raises:
        SecurityError: too many to be written or compared in reasonable time; or it is nested too deeply, or in itself.
    """
    if isinstance(value, (str, bytes)):
        return len(value)
    if not isinstance(value, (Collection, Namespace)) or isinstance(value, range):
        return 32
    parts = characters = 0
    waiting = [iter((value,))]
    while waiting:
        for part in waiting[-1]:
            parts += 1
            if isinstance(part, (str, bytes)):
                characters += len(part)
            elif (inside := _inside(part)) is not None:
                waiting.append(inside)
                break
            if parts > _MAX_PARTS or characters > MAX_CHARACTERS or len(waiting) > _DEEPEST:
                raise SecurityError("a value with all that is in it is too large")
        else:
            waiting.pop()
        if parts > _MAX_PARTS or len(waiting) > _DEEPEST:
            raise SecurityError("a value with all that is in it is too large")
    return characters + 32 * parts


def _inside(value: Any) -> Iterator[Any] | None:
    if isinstance(value, Namespace):
        value = value._Namespace__attrs
    if isinstance(value, Mapping):
        return (part for pair in value.items() for part in pair)
    return iter(value) if isinstance(value, Collection) and not isinstance(value, range) else None
