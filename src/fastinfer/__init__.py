"""fastinfer: presets, exact label probabilities and continuous batching over inference engines, in-process.

    import fastinfer

    clf = fastinfer.classifier(labels=["dog", "cat"])
    print(clf.classify("photo.png").probabilities)

    llm = fastinfer.llm("balanced", model="unsloth/Seed-OSS-36B-Instruct-GGUF:Q5_K_XL")
    print(llm.chat("Why is the sky blue?").text)

Importing the package loads no engine; each engine is loaded with its first model.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastinfer import errors
from fastinfer._version import __version__

if TYPE_CHECKING:
    from fastinfer.calibrating import Calibration
    from fastinfer.chat import ChatTimings, Piece, Reply, Usage, llm
    from fastinfer.chat.model import LLM
    from fastinfer.chat.options import ChatOptions
    from fastinfer.chat.request import ChatRequest
    from fastinfer.classify import Classification, Classifier, Timings
    from fastinfer.classify.opening import classifier
    from fastinfer.commands import from_command
    from fastinfer.comparing import Comparison, compare
    from fastinfer.jobs import JobSummary, arun, run
    from fastinfer.machine.checks.check import Check
    from fastinfer.machine.diagnosis import Diagnosis
    from fastinfer.machine.doctor import doctor
    from fastinfer.planning import Plan, plan
    from fastinfer.preset_library import Explanation, Preset
    from fastinfer.preset_library.loader import preset, presets
    from fastinfer.provenance import Adjustment, Provenance
    from fastinfer.replies import ToolCall
    from fastinfer.reporting import ClassificationReport, report
    from fastinfer.tables.results import Results
    from fastinfer.tuning import Tuned, tune
    from fastinfer.verifying import Verification, verify
    from fastinfer.watching import MetricsServer, serve_metrics

__all__ = [
    "LLM",
    "Adjustment",
    "Calibration",
    "ChatOptions",
    "ChatRequest",
    "ChatTimings",
    "Check",
    "Classification",
    "ClassificationReport",
    "Classifier",
    "Comparison",
    "Diagnosis",
    "Explanation",
    "JobSummary",
    "MetricsServer",
    "Piece",
    "Plan",
    "Preset",
    "Provenance",
    "Reply",
    "Results",
    "Timings",
    "ToolCall",
    "Tuned",
    "Usage",
    "Verification",
    "__version__",
    "arun",
    "classifier",
    "compare",
    "doctor",
    "errors",
    "from_command",
    "llm",
    "plan",
    "preset",
    "presets",
    "report",
    "run",
    "serve_metrics",
    "tune",
    "verify",
]

_HOMES = {
    "Adjustment": "fastinfer.provenance",
    "Calibration": "fastinfer.calibrating",
    "ChatOptions": "fastinfer.chat.options",
    "ChatRequest": "fastinfer.chat.request",
    "ChatTimings": "fastinfer.chat",
    "Check": "fastinfer.machine.checks.check",
    "Classification": "fastinfer.classify",
    "ClassificationReport": "fastinfer.reporting",
    "Classifier": "fastinfer.classify",
    "Comparison": "fastinfer.comparing",
    "Diagnosis": "fastinfer.machine.diagnosis",
    "Explanation": "fastinfer.preset_library",
    "JobSummary": "fastinfer.jobs",
    "LLM": "fastinfer.chat.model",
    "MetricsServer": "fastinfer.watching",
    "Piece": "fastinfer.chat",
    "Plan": "fastinfer.planning",
    "Preset": "fastinfer.preset_library",
    "Provenance": "fastinfer.provenance",
    "Reply": "fastinfer.chat",
    "Results": "fastinfer.tables.results",
    "Timings": "fastinfer.classify",
    "ToolCall": "fastinfer.replies",
    "Tuned": "fastinfer.tuning",
    "Usage": "fastinfer.chat",
    "Verification": "fastinfer.verifying",
    "arun": "fastinfer.jobs",
    "classifier": "fastinfer.classify",
    "compare": "fastinfer.comparing",
    "doctor": "fastinfer.machine.doctor",
    "from_command": "fastinfer.commands",
    "llm": "fastinfer.chat",
    "plan": "fastinfer.planning",
    "preset": "fastinfer.preset_library",
    "presets": "fastinfer.preset_library",
    "report": "fastinfer.reporting",
    "run": "fastinfer.jobs",
    "serve_metrics": "fastinfer.watching",
    "tune": "fastinfer.tuning",
    "verify": "fastinfer.verifying",
}


# Quiet until the program that uses this library sets logging up.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastinfer' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
