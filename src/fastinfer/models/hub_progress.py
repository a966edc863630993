"""Progress bars of downloads."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["progress", "waiting"]

_SECONDS: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} s"


def progress(name: str, size: int, *, begin: int = 0, shown: bool = True) -> Any:
    """A bar for bytes, of tqdm's.

    It is shown where huggingface_hub shows its own: on a terminal, and in a notebook as a widget.
    HF_HUB_DISABLE_PROGRESS_BARS and :func:`huggingface_hub.utils.disable_progress_bars` are honoured.

    Args:
        name: of the file.
        size: its length in bytes.
        begin: bytes that are there already.
        shown: whether to show it at all.
    """
    return _bar(shown, desc=name, total=size, initial=begin, unit="B", unit_scale=True)


def waiting(why: str, seconds: float, *, shown: bool = True) -> Any:
    """A bar for time to pass, as :func:`progress`; it leaves the screen at its end.

    Args:
        why: what is waited for.
        seconds: how long.
        shown: whether to show it at all.
    """
    return _bar(shown, desc=why, total=seconds, bar_format=_SECONDS, leave=False)


def _bar(shown: bool, **options: Any) -> Any:
    utilities: Any = import_module("huggingface_hub.utils")
    return utilities.tqdm(disable=None if shown else True, name="huggingface_hub.http_get", **options)
