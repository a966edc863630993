"""The presets' documentation in other languages than English.

English is the source: ``fields.toml``, the summaries in ``builtin.toml``, and the words in the code. A language is a
file beside them, ``fields.vi.toml``. Each entry there carries the digest of the English that it was made from, so that
a translation whose English has changed since is never shown; the English is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

from fastinfer.errors import PresetError
from fastinfer.fingerprint import fingerprint
from fastinfer.toml_file import read_toml

__all__ = ["PROSE", "Language", "check_language", "digest", "in_language", "said"]

Language = Literal["en", "vi"]

#: The keys of an entry that are text for people to read.
PROSE: Final = ("unit", "special", "effect", "cost", "when_to_change", "symptom", "text", "summary")


def check_language(lang: str) -> Language:
    """Return ``lang`` when the documentation is there in it.

    Raises:
        PresetError: it is not; the languages there are are named.
    """
    for known in get_args(Language):
        if lang == known:
            return known  # type: ignore[no-any-return]
    raise PresetError(
        f"Presets are not explained in the language {lang!r}.", hint="There are 'en', English, and 'vi', Vietnamese."
    )


def digest(entry: Mapping[str, Any]) -> str:
    """8 hexadecimal digits that stand for what an entry says: the first of SHA-256 over its prose."""
    return fingerprint({key: entry[key] for key in PROSE if key in entry}, digits=8)


def in_language(entry: Mapping[str, Any], lang: Language) -> dict[str, Any]:
    """An entry of the English documentation with its prose in another language, where that is translated.

    Args:
        entry: texts by key, with :data:`PROSE` and others among the keys.
        lang: the language.
    """
    return {**entry, **_entries(lang).get(digest(entry), {})}


def said(text: str, lang: Language) -> str:
    """A word or a short phrase of the English explanation in another language; as it is where it is not translated."""
    return _words(lang).get(text, text)


@cache
def _entries(lang: Language) -> dict[str, dict[str, str]]:
    """The prose of every translated entry, by the digest of its English."""
    table = _table(lang)
    return {
        entry["english"]: {key: text for key, text in entry.items() if key in PROSE}
        for kind in ("field", "advice", "preset")
        for entry in table.get(kind, ())
    }


@cache
def _words(lang: Language) -> dict[str, str]:
    words: dict[str, str] = _table(lang).get("words", {})
    return words


@cache
def _table(lang: Language) -> dict[str, Any]:
    return {} if lang == "en" else read_toml(Path(__file__).with_name(f"fields.{lang}.toml"))
