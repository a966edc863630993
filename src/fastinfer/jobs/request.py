"""What a job was asked for, checked as far as that needs neither engine nor files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from fastinfer.errors import FastInferError
from fastinfer.jobs.output import Shard

if TYPE_CHECKING:
    from fastinfer.calibrating import Calibration
    from fastinfer.chat.model import LLM
    from fastinfer.classify import Classifier
    from fastinfer.preset_library import Preset

__all__ = ["JobRequest"]

_KINDS: Final = ("classify", "chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """The arguments of :func:`fastinfer.run`, which says what each is; ``kind`` and ``shard`` as they were found."""

    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
    output: str | os.PathLike[str]
    kind: Literal["classify", "chat"] = "classify"
    using: Classifier | LLM | None = None
    preset: str | Preset | None = None
    labels: Iterable[str] | None = None
    model: str | os.PathLike[str] | None = None
    top: int | None = None
    calibration: str | os.PathLike[str] | Calibration | None = None
    retry_errors: bool = False
    limit: int | None = None
    shard: Shard | None = None
    overwrite: bool = False
    follow_links: bool = False
    progress: bool = False
    strict: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Any, output: str | os.PathLike[str], options: Mapping[str, Any]) -> JobRequest:
        """From arguments as they were given; what is no option of a job is a parameter of the preset to change.

        Raises:
            FastInferError: they contradict each other, or one makes no sense.
        """
        names = {each.name for each in fields(cls)} - {"source", "output", "changes"}
        known = {name: value for name, value in options.items() if name in names}
        changes = {name: value for name, value in options.items() if name not in names}
        known["kind"] = _kind(source, options.get("kind"))
        if known.get("shard") is not None:
            known["shard"] = Shard.of(known["shard"])
        request = cls(source=source, output=output, changes=changes, **known)
        request._check()
        return request

    def _check(self) -> None:
        for name in ("limit", "top"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise FastInferError(f"{name} is {value!r}.", hint="Give a whole number from 1, or leave it out.")
        if self.using is not None:
            for name in ("preset", "model", "calibration", "strict", "changes"):
                if getattr(self, name):
                    raise FastInferError(
                        f"{'A change of the preset' if name == 'changes' else name} was given beside an open engine.",
                        hint="Give what the engine is to be opened with, or an engine in using, not both.",
                    )
        if self.kind == "chat":
            for name in ("labels", "top", "calibration"):
                if getattr(self, name) is not None:
                    raise FastInferError(
                        f"{name} was given for a job of prompts.", hint="It is for images: leave it out."
                    )
            if self.follow_links:
                raise FastInferError(
                    "follow_links was given for a job of prompts.", hint="It is for a folder: leave it out."
                )


def _kind(source: object, kind: object) -> Literal["classify", "chat"]:
    if kind in _KINDS:
        return "chat" if kind == "chat" else "classify"
    if kind is not None:
        raise FastInferError(f"There is no kind {kind!r} of jobs.", hint='It is "classify" or "chat".')
    is_prompts = isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".jsonl"
    return "chat" if is_prompts else "classify"
