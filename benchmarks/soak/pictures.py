"""Pictures in every form that users have them, each with its answers; and files that are no pictures."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastinfer

from .ledger import Ledger, WrongContent

SAMPLES = Path(fastinfer.__file__).parent / "samples"
#: Sets with a shared beginning, a label that begins another, and one that is large.
LABELS: tuple[tuple[str, ...], ...] = (
    ("a car", "a fish", "a key", "a mushroom", "a tree", "an umbrella", "a heart", "a star"),
    ("red circle", "blue square", "yellow star", "purple heart"),
    ("circle", "circle on white", "square", "star", "heart", "digit"),
    tuple(f"number {number}" for number in range(40)),
)
#: The model's own name for a picture is only asked for where it is this sure, so that there are no near ties.
_SURE = 0.5


@dataclass(frozen=True)
class Question:
    """A picture and a label set, None where the model is to name it, with the answer that it had alone."""

    image: Any
    labels: tuple[str, ...] | None
    probabilities: dict[str, float]
    mass: float
    name: str

    def check(self, result: Any, tolerance: float, ledger: Ledger) -> None:
        """Raise WrongContent where an answer is another one."""
        if set(result.probabilities) != set(self.probabilities):
            raise WrongContent(f"{self.name}: labels {list(result.probabilities)}, not {list(self.probabilities)}")
        away = max(abs(result.probabilities[label] - value) for label, value in self.probabilities.items())
        ledger.notice("difference_of_a_probability", away)
        ledger.notice("difference_of_label_mass", abs(result.label_mass - self.mass))
        if not away <= tolerance:
            raise WrongContent(f"{self.name}: a probability differs by {away:.5f}: {result.probabilities}")
        if self.labels is not None and abs(sum(result.probabilities.values()) - 1) > 1e-6:
            raise WrongContent(f"{self.name}: probabilities sum to {sum(result.probabilities.values())}")


def ask_all(classifier: Any) -> list[Question]:
    """Every picture with every label set, asked one at a time before anything else runs."""
    found = []
    for name, image in _sources():
        for labels in (*LABELS, None):
            result = classifier.classify(image, labels=labels) if labels else _named(classifier, image)
            if labels is None and result.confidence < _SURE:
                continue
            said = f"{name} as {type(image).__name__}, {len(labels) if labels else 'no'} labels"
            found.append(Question(image, labels, dict(result.probabilities), result.label_mass, said))
    return found


def _named(classifier: Any, image: Any) -> Any:
    classifier.labels = None
    return classifier.classify(image)


def _sources() -> list[tuple[str, Any]]:
    """Each sample in two forms, by turns, and two pictures of some megapixels."""
    found: list[tuple[str, Any]] = []
    for number, path in enumerate(sorted(p for p in SAMPLES.iterdir() if p.suffix in (".png", ".jpg"))):
        picture = Image.open(path).convert("RGB")
        forms = (str(path), path.read_bytes(), picture, np.asarray(picture), path)
        found += [(path.name, forms[number % 5]), (path.name, forms[(number + 2) % 5])]
    large = Image.open(SAMPLES / "tree.jpg").convert("RGB").resize((2400, 1800))
    for form in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        large.save(buffer, form)
        found.append((f"a large {form}", buffer.getvalue()))
    return found


def bad_images(chance: random.Random) -> Sequence[Any]:
    """What is no picture, or no whole one."""
    whole = (SAMPLES / "tree.jpg").read_bytes()
    png = (SAMPLES / "red-circle.png").read_bytes()
    return (
        b"",
        chance.randbytes(500),
        whole[: len(whole) // 2],
        png[: len(png) * 2 // 3],
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        str(SAMPLES / "no-such-file.png"),
        str(SAMPLES / "SOURCES.md"),
        np.zeros((4, 4, 7), "uint8"),
    )
