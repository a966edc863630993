"""What both servers' flags have in common when they become a preset's values: refusals, repetitions, legal ranges."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from fastinfer.commands.command import Remark
from fastinfer.commands.line import Line, Option
from fastinfer.errors import PresetError
from fastinfer.preset_library.fields import legal_range
from fastinfer.preset_library.schema import PARAMETER_CLASSES

__all__ = ["Reader", "Reading", "number", "text", "whole"]

_WHOLE: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,300}\.?\d{0,300}|\.\d{1,300})(?:[eE][+-]?\d{1,4})?", re.ASCII)
_ENVIRONMENT: Final = "A variable is set for the whole process: set it before Python is started."


class Reading(NamedTuple):
    """What a command says.

    Attributes:
        values: value by field of the preset, for every field that a flag fills.
        remarks: what of the command has no place in this process.
    """

    values: dict[str, object]
    remarks: list[Remark]


def whole(option: Option) -> int:
    """The whole number that a flag is given.

    Raises:
        PresetError: it is none.
    """
    if not _WHOLE.fullmatch(option.value):
        raise PresetError(f"{option.name}: {option.value!r:.40} is no whole number.", hint="Give one in digits.")
    return int(option.value)


def number(option: Option) -> float:
    """The number that a flag is given.

    Raises:
        PresetError: it is none.
    """
    if not _NUMBER.fullmatch(option.value):
        raise PresetError(f"{option.name}: {option.value!r:.40} is no number.", hint="Give one in digits.")
    return float(option.value)


def text(option: Option) -> str:
    """What a flag is given, as it is."""
    return option.value


class Reader:
    """Collects values and remarks from a line.

    Args:
        line: the command.

    Raises:
        PresetError: a flag cannot be left out without other answers.
    """

    def __init__(self, line: Line) -> None:
        self._class = PARAMETER_CLASSES[line.server.kind, line.server.backend]
        self._line = line
        self._values: dict[str, object] = dict(line.server.defaults)
        self._placed: set[str] = set()
        self._remarks: list[tuple[int, Remark]] = []
        self._last = {option.flag: option for option in line.options}
        for setting in line.settings:
            self._remarks.append((-1, Remark(setting.name, setting.value, _ENVIRONMENT)))
        for option in line.options:
            self._look_at(option)

    def __getitem__(self, field: str) -> Any:
        """The value that a field has by now."""
        return self._values[field]

    def last(self, spelling: str) -> Option | None:
        """A flag as it was given last, which is what counts; None where it was not given.

        Args:
            spelling: any of its spellings.
        """
        return self._last.get(self._line.server.flags[spelling])

    def later(self, *spellings: str) -> Option | None:
        """The one of several flags that was given last, or None."""
        wanted = {self._line.server.flags[spelling] for spelling in spellings}
        return next((option for option in reversed(self._line.options) if option.flag in wanted), None)

    def put(self, field: str, value: object, option: Option | None = None) -> None:
        """Give a field its value.

        Args:
            field: the preset's field.
            value: its value.
            option: the flag that says so; None for the server's own choice.

        Raises:
            PresetError: the value is not legal; the flag is named.
        """
        self._values[field] = value
        if option is None:
            return
        self._placed.add(field)
        try:
            self._class.model_validate({"model": "any", "backend": self._line.server.backend, field: value})
        except ValidationError as error:
            if any(detail["loc"][:1] == (field,) and detail["type"] != "missing" for detail in error.errors()):
                raise PresetError(
                    f"{option.name}: {option.value!r:.60} is not legal for {field}.",
                    hint=f"Legal: {legal_range(self._class, field)}.",
                ) from None

    def convert(self, conversions: Mapping[str, Callable[[Option], object]]) -> None:
        """Give fields the values of their flags, as far as those are given.

        Args:
            conversions: what makes a field's value of its flag, by field.

        Raises:
            PresetError: as :meth:`put`, or what a conversion raises.
        """
        for field, convert in conversions.items():
            option = self.last(self._line.server.spelling(field))
            if option is not None:
                self.put(field, convert(option), option)

    def remark(self, option: Option, why: str) -> None:
        """Say something about a flag."""
        self._remarks.append((self._line.options.index(option), Remark(option.name, option.value, why)))

    def finish(self, *, unless: Mapping[str, bool]) -> Reading:
        """Everything that was collected, the remarks in the order of the command.

        Args:
            unless: by field, whether there is nothing to say about the server's own choice for it.
        """
        remarks = [remark for _, remark in sorted(self._remarks, key=lambda item: item[0])]
        for field, why in self._line.server.not_given.items():
            if field not in self._placed and not unless.get(field, False):
                remarks.append(Remark(self._line.server.spelling(field), "", why))
        return Reading(self._values, remarks)

    def _look_at(self, option: Option) -> None:
        flag, last = option.flag, self._last[option.flag]
        if option.joined and not self._line.server.shortened:
            self.remark(option, "llama-server takes no '=' between a flag and its value; it was read as two words.")
        if flag.refused and not _same(option, flag.neutral):
            raise PresetError(f"{option.name} cannot be taken over: {flag.why}", hint=flag.hint)
        if flag.refused:
            self.remark(option, "With this value it changes nothing.")
        elif not flag.field:
            self.remark(option, flag.why)
        elif option is not last and (option.value, option.on) != (last.value, last.on):
            self.remark(option, "It is given again later, and the last one counts.")


def _same(option: Option, neutral: str) -> bool:
    if not neutral:
        return False
    if _NUMBER.fullmatch(neutral) and _NUMBER.fullmatch(option.value):
        return float(option.value) == float(neutral)
    return neutral in (option.value, option.spelling)
