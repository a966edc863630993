"""Characters that stand for something else while a template is rendered.

They are noncharacters of Unicode, reserved for use inside a program. Should a caller's text hold one, :func:`escape`
makes it two harmless ones and :func:`show` brings it back.
"""

from __future__ import annotations

import re

__all__ = ["BREAK", "IMAGE", "MARK", "MEDIA", "escape", "original", "show"]

#: An image; the first mark in a prompt is the first image.
IMAGE = "\ufdd0"
#: Between two characters of a caller's text that could otherwise be taken for a special token.
BREAK = "\ufdd1"
_ESCAPE = "\ufdd2"

#: What templates that were written for llama.cpp print in an image's place.
MEDIA = "<__media__>"

_RESERVED = {IMAGE: _ESCAPE + "0", BREAK: _ESCAPE + "1", _ESCAPE: _ESCAPE + "2"}
_RESTORED = {escaped: mark for mark, escaped in _RESERVED.items()}
_ANY = re.compile(f"[{IMAGE}{BREAK}{_ESCAPE}]")

#: A mark, or an escaped one, in a rendered text.
MARK = re.compile(f"{IMAGE}|{BREAK}|{_ESCAPE}[012]?")


def escape(text: str) -> str:
    """A caller's text without any of the marks in it."""
    return _ANY.sub(lambda found: _RESERVED[found[0]], text) if _ANY.search(text) else text


def original(escaped: str) -> str:
    """The character that an escaped mark, as :data:`MARK` finds it, stands for; "" for a break or half an escape."""
    return _RESTORED.get(escaped, "")


def show(text: str) -> str:
    """A rendered text as the model reads it: breaks removed, escapes undone; marks of images stay."""
    return MARK.sub(lambda found: IMAGE if found[0] == IMAGE else original(found[0]), text)
