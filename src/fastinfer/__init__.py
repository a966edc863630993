"""fastinfer: presets, exact label probabilities and batching over inference engines, in-process.

    import fastinfer

    clf = fastinfer.classifier(labels=["dog", "cat"])
    print(clf.classify("photo.png").probabilities)

Importing the package loads no engine; each engine is loaded with its first model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastinfer import errors
from fastinfer._version import __version__

if TYPE_CHECKING:
    from fastinfer.classify import Classification, Classifier, Timings, classifier
    from fastinfer.preset_library import Explanation, Preset, preset, presets
    from fastinfer.provenance import Adjustment, Provenance

__all__ = [
    "Adjustment",
    "Classification",
    "Classifier",
    "Explanation",
    "Preset",
    "Provenance",
    "Timings",
    "__version__",
    "classifier",
    "errors",
    "preset",
    "presets",
]

_HOMES = {
    "Adjustment": "fastinfer.provenance",
    "Classification": "fastinfer.classify",
    "Classifier": "fastinfer.classify",
    "Explanation": "fastinfer.preset_library",
    "Preset": "fastinfer.preset_library",
    "Provenance": "fastinfer.provenance",
    "Timings": "fastinfer.classify",
    "classifier": "fastinfer.classify",
    "preset": "fastinfer.preset_library",
    "presets": "fastinfer.preset_library",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastinfer' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
