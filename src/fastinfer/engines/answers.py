"""How an answer continues its prompt."""

from __future__ import annotations

__all__ = ["lead_after"]


def lead_after(prompt: str) -> str:
    """What an answer starts with: a space where the prompt ends in a word or colon, else nothing."""
    return "" if prompt[-1:].isspace() or prompt[-1:] in (">", "]", "|") else " "
