"""Label sets: checked before any model runs, then turned into a trie of tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fastinfer.engines.scoring import LabelTrie
from fastinfer.errors import LabelError

__all__ = ["MAX_LABELS", "MAX_LABEL_TOKENS", "LabelSet", "check_labels"]

MAX_LABELS = 1000
MAX_LABEL_TOKENS = 256


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A label set that can be scored.

    Attributes:
        names: the labels as the caller wrote them, the keys of every result.
        texts: what is scored: Unicode NFC, runs of white space folded to one space, ends stripped.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]

    def build_trie(self, tokenize: Callable[[str], list[int]]) -> LabelTrie:
        """The trie of the labels' tokens.

        Raises:
            LabelError: a label is longer than 256 tokens, or two labels have the same tokens.
        """
        tokens = [tokenize(text) for text in self.texts]
        seen: dict[tuple[int, ...], str] = {}
        for name, ids in zip(self.names, tokens, strict=True):
            if len(ids) > MAX_LABEL_TOKENS:
                raise LabelError(
                    f"The label {_short(name)} has {len(ids)} tokens; at most {MAX_LABEL_TOKENS} are scored.",
                    hint="Labels are names; put explanations into the prompt.",
                )
            twin = seen.setdefault(tuple(ids), name)
            if twin != name:
                raise LabelError(
                    f"The labels {_short(twin)} and {_short(name)} are the same to the model's tokenizer.",
                    hint="Remove one of them.",
                )
        return LabelTrie(tokens)


def check_labels(labels: Iterable[str]) -> LabelSet:
    """Check a label set as far as it can be without a model.

    Args:
        labels: 1 to 1000 different, non-empty strings. A label may be a prefix of another one.

    Raises:
        LabelError: the set is empty or too large; a label is empty, no string, or has control characters; or two
            labels are equal after Unicode normalisation and folding of white space.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise LabelError(
            f"Labels must be a list of strings, not {type(labels).__name__}.", hint='Write labels=["cat", "dog"].'
        )
    names = list(labels)
    if not names:
        raise LabelError("The label set is empty.", hint="Give at least one label, or None to let the model name it.")
    if len(names) > MAX_LABELS:
        raise LabelError(
            f"The label set has {len(names)} labels; at most {MAX_LABELS} are scored.",
            hint="Classify in two steps: groups first, then the labels of the likeliest group.",
        )
    texts: dict[str, str] = {}
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise LabelError(
                f"Label {position} is of type {type(name).__name__}, not a string: {name!r}.",
                hint="Convert the labels: [str(label) for label in labels].",
            )
        text = _fold(name, position)
        if text in texts:
            raise LabelError(
                f"The labels {_short(texts[text])} and {_short(name)} are the same"
                + ("." if texts[text] == name else " after Unicode normalisation and folding of white space."),
                hint="Remove one of them.",
            )
        texts[text] = name
    return LabelSet(tuple(names), tuple(texts))


def _fold(name: str, position: int) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise LabelError(
            f"Label {position} is not valid Unicode: {name!r}.", hint="Remove the lone surrogates."
        ) from error
    text = " ".join(unicodedata.normalize("NFC", name).split())
    if not text:
        raise LabelError(f"Label {position} is empty: {name!r}.", hint="Remove it.")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise LabelError(f"Label {position} holds control characters: {name!r}.", hint="Remove them.")
    return text


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")
