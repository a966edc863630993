"""From a prompt and a label set to what an engine is asked."""

from __future__ import annotations

from fastinfer.classify.labels import LabelSet
from fastinfer.engines.base import ClassifyEngine, Task

__all__ = ["build_task"]


def build_task(engine: ClassifyEngine, prompt: str, labels: LabelSet | None, max_tokens: int) -> Task:
    """The task of a label set.

    Args:
        engine: what is asked.
        prompt: the question; ``{image}`` is the image's place in it, which is else before it, ``{labels}`` the labels'.
        labels: to choose from; None lets the model name what it sees.
        max_tokens: most tokens of a name.

    Raises:
        LabelError: a label is too long, or two are the same to the engine's tokenizer.
    """
    before, place, after = prompt.partition("{image}")
    opening, text = (before, after) if place else ("", prompt)
    if labels is None:
        return Task(text, None, max_tokens, opening)
    named = ", ".join(labels.texts)
    opening, text = opening.replace("{labels}", named), text.replace("{labels}", named)
    trie = labels.build_trie(lambda label: engine.tokenize_label(label, text))
    return Task(text, trie, max_tokens, opening)
