"""Names of models on the Hugging Face hub, and what a repository is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["HubEntry", "HubName", "Listing", "Missing"]

_NAME: Final = re.compile(
    r"(?P<repo>(?!\.{1,2}/)[\w.-]+/[\w.-]+)(?::(?P<quant>[\w.-]+))?(?:@(?P<revision>[\w.+-][\w./+-]*))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class HubName:
    """A model's name on the hub.

    Attributes:
        repo: ``"org/repo"``.
        quant: the quantisation, or None for the preferred one.
        revision: branch, tag or commit, or None for the main branch.
    """

    repo: str
    quant: str | None
    revision: str | None

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """The name that a text is, or None where it is none."""
        match = _NAME.fullmatch(text)
        if match is None or ".." in (match["revision"] or ""):
            return None
        return cls(match["repo"], match["quant"], match["revision"])

    def __str__(self) -> str:
        quant = f":{self.quant}" if self.quant else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{quant}{revision}"


class HubEntry(NamedTuple):
    """What the hub says of a file.

    Attributes:
        size: its length in bytes; None where the hub does not say.
        sha256: of its content, in hexadecimal digits; None for a small file that lies in Git, and where the hub does
            not say.
        blob: Git's name of its content (SHA-1 over a header and the content), in hexadecimal digits; of a large file,
            whose content does not lie in Git, it is that of a pointer to it. None where the hub does not say.
    """

    size: int | None = None
    sha256: str | None = None
    blob: str | None = None


class Listing(NamedTuple):
    """The files of a repository.

    Attributes:
        commit: whose files they are; None where the hub does not say.
        files: what is known of each, by its path in the repository.
    """

    commit: str | None
    files: dict[str, HubEntry]


class Missing(NamedTuple):
    """What to say of a model that is not in the cache.

    Attributes:
        patterns: the files to fetch.
        there: the models of this revision that the cache has.
    """

    patterns: Sequence[str]
    there: Sequence[str] = ()
