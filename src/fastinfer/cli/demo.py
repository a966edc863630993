"""``fastinfer demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastinfer.cli import output
from fastinfer.cli.inputs import find_images, read_labels
from fastinfer.cli.options import Debug, Json
from fastinfer.cli.results import COLUMNS, cells, record

if TYPE_CHECKING:
    from fastinfer.classify import Classification, Classifier

__all__ = ["demo"]

_SAMPLES = Path(__file__).parents[1] / "samples"


def demo(json: Json = False, debug: Debug = False) -> None:
    """Classify the sample images with the model in the package: offline, on any CPU.

    \b
    Examples:
      fastinfer demo
      fastinfer demo --json
    """
    labels = read_labels(None, str(_SAMPLES / "labels.txt"))
    images = find_images([str(_SAMPLES)])

    from fastinfer.classify import classifier

    # The model is named, so that FASTINFER_CLASSIFY_MODEL does not change what the demo shows.
    with classifier("embedded", labels=labels, model="embedded") as loaded:
        begun = time.perf_counter()
        results = list(loaded.classify_many([image.source for image in images]))
        seconds = time.perf_counter() - begun
        if json:
            for image, result in zip(images, results, strict=True):
                output.json_line(record(image.name, result))
        else:
            _show(loaded, results, seconds)


def _show(loaded: Classifier, results: list[Classification], seconds: float) -> None:
    with output.rows(COLUMNS) as add:
        for result in results:
            add(*cells(result.source, result))
    count = len(loaded.labels or ())
    output.note(f"Probabilities are over a closed set of {count} labels: fastinfer/samples/labels.txt")
    ran, speed = loaded.provenance, len(results) / seconds
    output.note(f"{len(results)} images, {speed:.0f} images/s: model {ran.model}, {ran.engine}, {ran.device}")
    output.note("Next: fastinfer classify IMAGE --labels cat,dog")
