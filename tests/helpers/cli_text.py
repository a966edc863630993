"""What the command line writes, made easy to look into."""

from __future__ import annotations

__all__ = ["unboxed"]


def unboxed(text: str) -> str:
    """Text on one line, without the box around an error."""
    return " ".join(text.replace("│", " ").split())
