"""Which versions a package says it works with: its own metadata is the only list."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import Distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["distribution", "requirement", "requirements"]


def distribution(name: str, path: Sequence[str] | None = None) -> Distribution | None:
    """An installed package; None where it is not.

    Args:
        name: as package registries have it.
        path: folders to look in; None for those that Python imports from.
    """
    found = Distribution.discover(name=name, path=list(sys.path if path is None else path))
    return next(iter(found), None)


def requirements(of: str, path: Sequence[str] | None = None, *, extras: bool = False) -> list[Requirement] | None:
    """What a package needs on this machine; None where the package is not installed.

    Args:
        of: the package.
        path: folders to look in; None for those that Python imports from.
        extras: what its optional extras and other machines need, too.

    Raises:
        ValueError: its metadata is damaged.
    """
    found = distribution(of, path)
    if found is None:
        return None
    parsed = [Requirement(line) for line in found.requires or ()]
    return [each for each in parsed if extras or each.marker is None or each.marker.evaluate({"extra": ""})]


def requirement(name: str, path: Sequence[str] | None = None) -> str:
    """A package with the versions that fastinfer works with, for pip: ``"pillow>=10.3"``; else its name alone.

    Raises:
        ValueError: fastinfer's metadata is damaged.
    """
    for each in requirements("fastinfer", path, extras=True) or ():
        if canonicalize_name(each.name) == canonicalize_name(name):
            return f"{each.name}{each.specifier}"
    return name
