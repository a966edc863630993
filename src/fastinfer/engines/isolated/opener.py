"""Which engine the child opens."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

__all__ = ["Opener"]


@dataclass(frozen=True, slots=True)
class Opener:
    """A call that gives an engine. It names what is called, so that the parent need not load the engine's library.

    Attributes:
        kind: ``"classify"`` for a :class:`fastinfer.engines.base.ClassifyEngine`, ``"chat"`` for a
            :class:`fastinfer.engines.chat.ChatEngine`.
        module: of the class or function.
        name: its name.
        arguments: what it is called with; can be pickled.
        keywords: likewise.
        first: modules that are imported before all others. Builds of llama.cpp with a C++ library of their own crash
            where numpy has loaded another one before.
    """

    kind: Literal["classify", "chat"]
    module: str
    name: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    first: tuple[str, ...] = ()

    def open(self) -> Any:
        """The engine; raises what opening it raises."""
        return getattr(import_module(self.module), self.name)(*self.arguments, **self.keywords)
