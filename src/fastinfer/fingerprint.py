"""A few digits that stand for values: the same on every machine and Python version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical", "fingerprint"]


def canonical(content: Mapping[str, Any]) -> str:
    """The content as JSON in ASCII, the same text for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(content: Mapping[str, Any], *, digits: int = 16) -> str:
    """So many hexadecimal digits, the first of SHA-256 over canonical JSON of the content."""
    return hashlib.sha256(canonical(content).encode("ascii")).hexdigest()[:digits]
