"""Values of a JSON file, each checked for its type when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import ModelLoadError

__all__ = ["Fields"]

_MAX_FILE: Final = 1 << 26  # bytes; the largest index of a published checkpoint has below 2^24
_MAX_VALUES: Final = 1 << 21  # marks before values: Python's objects for more would take gigabytes
_MAX_COUNT: Final = (1 << 31) - 1  # what native code holds in an int


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a JSON file.

    A field that is ``null`` counts as missing.

    Attributes:
        values: the object.
        file: the file, for errors.
        within: the object's own name and a dot, for errors; empty for the whole file.
    """

    values: Mapping[str, Any]
    file: Path
    within: str = ""

    @classmethod
    def read(cls, file: Path) -> Fields | None:
        """The object that the file holds, or None where there is no such file.

        Raises:
            ModelLoadError: the file cannot be read, is over 64 MiB, has over two million values, or is no JSON
                object.
        """
        try:
            with file.open("rb") as opened:
                raw = opened.read(_MAX_FILE + 1)
            if len(raw) > _MAX_FILE:
                raise ModelLoadError(f"{file}: over {_MAX_FILE} bytes long.", hint="Fetch or copy the file again.")
            if sum(map(raw.count, (b"{", b"[", b","))) > _MAX_VALUES:
                raise ModelLoadError(f"{file}: over {_MAX_VALUES} values.", hint="Fetch or copy the file again.")
            values = json.loads(raw)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelLoadError(
                f"{file}: cannot be read: {error.strerror or error}.", hint="Check the file's permissions and its disk."
            ) from error
        except (ValueError, RecursionError) as error:
            raise ModelLoadError(f"{file}: no sound JSON: {error}.", hint="Fetch or copy the file again.") from error
        if not isinstance(values, dict):
            raise ModelLoadError(f"{file}: no JSON object.", hint="Fetch or copy the file again.")
        return cls(values, file)

    def part(self, name: str) -> Fields | None:
        """The object in a field, or None where the field is missing.

        Raises:
            ModelLoadError: it is something else.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return Fields(value, self.file, f"{self.within}{name}.")

    def or_else(self, defaults: Mapping[str, Any]) -> Fields:
        """The same with these values for fields that are missing."""
        given = {name: value for name, value in self.values.items() if value is not None}
        return Fields({**defaults, **given}, self.file, self.within)

    def count(self, name: str) -> int:
        """The whole number, 1 to 2^31 - 1, in a field that must be there.

        Raises:
            ModelLoadError: it is missing or something else.
        """
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_COUNT:
            raise self.wrong(name, "a whole number above 0")
        return value

    def sides(self, name: str) -> tuple[int, int]:
        """Width and height in a field that must be there: one number for both, or a list of height and width.

        Raises:
            ModelLoadError: it is missing or something else.
        """
        value = self.values.get(name)
        if not isinstance(value, list):
            return (self.count(name), self.count(name))
        if len(value) != 2:
            raise self.wrong(name, "a number or a list of two")
        height, width = (Fields({name: side}, self.file, self.within).count(name) for side in value)
        return width, height

    def text(self, name: str) -> str | None:
        """The text in a field, or None where the field is missing.

        Raises:
            ModelLoadError: it is something else.
        """
        value = self.values.get(name)
        if not isinstance(value, str | None):
            raise self.wrong(name, "a text")
        return value

    def truth(self, name: str) -> bool:
        """The truth value in a field; False where the field is missing.

        Raises:
            ModelLoadError: it is something else.
        """
        value = self.values.get(name)
        if not isinstance(value, bool | None):
            raise self.wrong(name, "true or false")
        return bool(value)

    def wrong(self, name: str, expected: str) -> ModelLoadError:
        """The error for a field that is missing or holds something else than what is expected."""
        value = self.values.get(name)
        what = "is missing" if value is None else f"is {json.dumps(value)[:80]}"
        return ModelLoadError(
            f"{self.file}: {self.within}{name} {what}; it has to be {expected}.",
            hint="Fetch or copy the file again, or name a model that is complete.",
        )
