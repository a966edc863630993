"""Random messages of an exact number of tokens, no two alike."""

from __future__ import annotations

import ctypes
import random
from pathlib import Path

import llama_cpp

from .workload import Message

WORDS = (
    "time", "year", "people", "way", "day", "thing", "world", "life", "hand", "part", "child", "eye", "woman",
    "place", "work", "week", "case", "point", "company", "number", "group", "problem", "fact", "water", "house",
    "service", "friend", "power", "hour", "game", "line", "member", "law", "car", "city", "name", "team", "minute",
    "idea", "body", "back", "face", "level", "office", "door", "health", "person", "art", "history", "party",
    "result", "change", "morning", "reason", "research", "girl", "moment", "air", "teacher", "force", "order",
    "green", "small", "large", "early", "young", "public", "human", "local", "sure", "different", "clear", "able",
    "strong", "whole", "free", "real", "simple", "open", "hard", "make", "know", "take", "see", "come", "think",
    "look", "want", "give", "use", "find", "tell", "ask", "seem", "feel", "try",
)  # fmt: skip


class Prompts:
    """Texts counted with the model's own tokenizer, of which only the vocabulary is loaded.

    Args:
        model: the GGUF file.
        seed: of all texts to come.
    """

    def __init__(self, model: Path, seed: int = 0) -> None:
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self._silence()
        self._model = llama_cpp.llama_model_load_from_file(str(model).encode(), parameters)
        if not self._model:
            raise SystemExit(f"{model} cannot be loaded")
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._random = random.Random(seed)
        self.overhead = 0  # tokens that the chat template adds to a single user message; set by the first probe

    def count(self, text: str) -> int:
        """Tokens of a text, without any that a template or tokenizer adds at its ends."""
        raw = text.encode()
        tokens = (llama_cpp.llama_token * (len(raw) + 8))()
        found = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), tokens, len(tokens), False, False)
        if found < 0:
            raise RuntimeError("the tokenizer gave more tokens than there are bytes")
        return int(found)

    def text(self, tokens: int) -> str:
        """Random words that are exactly this many tokens, or as many more as the last word needs."""
        words = [self._random.choice(WORDS).capitalize()]
        while self.count(" ".join(words)) < tokens:
            short = tokens - self.count(" ".join(words))
            words += self._random.choices(WORDS, k=max(1, short // 3))
        while len(words) > 1 and self.count(" ".join(words)) > tokens:
            words.pop()
        # What a shorter last word left open: full stops are a token each when they are apart.
        text = " ".join(words)
        while self.count(text) < tokens:
            text += "\n." if text.endswith("!") else "\n!"
        return text

    def user(self, tokens: int) -> list[Message]:
        """A conversation that, rendered, is this many tokens once ``overhead`` is known."""
        return [{"role": "user", "content": self.text(max(1, tokens - self.overhead))}]

    def _silence(self) -> None:
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
        self._quiet = kind(lambda level, message, data: None)
        llama_cpp.llama_log_set(self._quiet, None)
