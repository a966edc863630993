"""The vocabulary of a model that is loaded in another process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from fastinfer.engines.chat import SpecialToken, Vocabulary
from fastinfer.engines.isolated.calls import call
from fastinfer.engines.isolated.supervisor import Supervisor

__all__ = ["IsolatedVocabulary", "describe"]

#: Names of further chat templates that are looked for.
_TEMPLATES = ("tool_use",)


def describe(vocabulary: Vocabulary) -> dict[str, Any]:
    """What does not change of a vocabulary, as JSON."""
    return {
        "size": vocabulary.size,
        "architecture": vocabulary.architecture,
        "bos_token": vocabulary.bos_token,
        "bos": vocabulary.bos,
        "eos": vocabulary.eos,
        "adds_bos": vocabulary.adds_bos,
        "specials": [[s.id, s.text, s.control, s.lstrip, s.rstrip] for s in vocabulary.specials],
        "templates": {name or "": vocabulary.chat_template(name) for name in (None, *_TEMPLATES)},
    }


class IsolatedVocabulary:
    """A :class:`fastinfer.engines.chat.Vocabulary` that asks the engine's process.

    Args:
        supervisor: of the process.
        facts: what :func:`describe` says of it.
        timeout: seconds that an answer may take.
    """

    def __init__(self, supervisor: Supervisor, facts: dict[str, Any], timeout: float) -> None:
        self._supervisor, self._timeout = supervisor, timeout
        self._templates: dict[str, str | None] = facts["templates"]
        self.size: int = facts["size"]
        self.architecture: str = facts["architecture"]
        self.bos_token: int = facts["bos_token"]
        self.bos: str = facts["bos"]
        self.eos: str = facts["eos"]
        self.adds_bos: bool = facts["adds_bos"]
        self.specials = tuple(SpecialToken(*special) for special in facts["specials"])

    @cached_property
    def special_tokens(self) -> Mapping[str, int]:
        """Control and unknown tokens by text."""
        return MappingProxyType({s.text: s.id for s in reversed(self.specials) if s.control})

    @cached_property
    def user_defined_tokens(self) -> Mapping[str, int]:
        """Tokens by text that are taken whole from any text and are plain text all the same."""
        return MappingProxyType({s.text: s.id for s in reversed(self.specials) if not s.control})

    def tokenize(self, text: str, *, special: bool, continues: bool = False) -> list[int]:
        """The tokens of a text; neither BOS nor EOS is added."""
        _, blob = call(
            self._supervisor, "tokenize", special, continues, blob=text.encode("utf-8"), timeout=self._timeout
        )
        return [int(token) for token in memoryview(blob).cast("i")]

    def check_grammar(self, text: str) -> None:
        """Make sure that the engine can use a grammar that a user wrote; SchemaError where it cannot."""
        call(self._supervisor, "check_grammar", blob=text.encode("utf-8", "surrogatepass"), timeout=self._timeout)

    def chat_template(self, name: str | None = None) -> str | None:
        """The chat template in the model's file, or None."""
        return self._templates.get(name or "")
