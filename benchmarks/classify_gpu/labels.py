"""The label sets: ten for everything, thirty for agreement, a thousand words of one token, a thousand names."""

from __future__ import annotations

import re
from pathlib import Path

from ..common import ROOT

TEN = ("bicycle", "bridge", "building", "cat", "dog", "flower", "mountain", "person", "ship", "tree")
#: Does not list the labels: a thousand of them are more than the preset's 512 tokens.
SHORT_PROMPT = "What is in this image? Answer with its name only."
_MORE = ("apple", "bird", "book", "bread", "chair", "clock", "horse", "house", "star")
_NAMES = ROOT / "src/fastinfer/models/embedded/concepts.txt"
_SAMPLES = ROOT / "src/fastinfer/samples/labels.txt"
_WORD = re.compile("[A-Za-z]{2,}")


def thirty() -> tuple[str, ...]:
    """What the samples show, what they might be taken for, and some more."""
    return tuple(dict.fromkeys((*_lines(_SAMPLES), *_MORE)))[:30]


def single_tokens(model: Path, count: int = 1000) -> tuple[str, ...]:
    """Words of a checkpoint's vocabulary that its tokenizer reads as one token each, in order of token.

    Raises:
        ValueError: the vocabulary has fewer.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    words = sorted((token, word) for word, token in tokenizer.get_vocab().items() if _WORD.fullmatch(word))
    found = [word for token, word in words if tokenizer.encode(word, add_special_tokens=False).ids == [token]]
    if len(found) < count:
        raise ValueError(f"the vocabulary has {len(found)} words of one token; {count} are needed")
    return tuple(found[:count])


def longest_names(model: Path, count: int = 1000) -> tuple[tuple[str, ...], float]:
    """The names of things that take the most tokens, and how many they take on average."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    lengths = {name: len(tokenizer.encode(name, add_special_tokens=False).ids) for name in _lines(_NAMES)}
    chosen = sorted(lengths, key=lambda name: -lengths[name])[:count]
    return tuple(chosen), sum(lengths[name] for name in chosen) / len(chosen)


def _lines(path: Path) -> list[str]:
    return list(dict.fromkeys(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()))
