"""How many examples a property is tried on: in the profile ``thorough`` as many as it names, by default a third."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["THOROUGH", "examples", "register_profiles"]

#: ``pytest --hypothesis-profile thorough``.
THOROUGH = "thorough"
_ALL = 100


def register_profiles() -> None:
    """Register both profiles, and load the quick one."""
    settings.register_profile(THOROUGH, max_examples=_ALL)
    settings.register_profile("quick", max_examples=_ALL // 3)
    settings.load_profile("quick")


def examples(count: int) -> int:
    """So many in the profile ``thorough``; asked for when a test module is imported."""
    return max(1, count * settings().max_examples // _ALL)
