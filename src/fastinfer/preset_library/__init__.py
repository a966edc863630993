"""Presets: named, validated and documented parameters for both engines.

The built-in presets are data (``builtin.toml``), and so is what each field means (``fields.toml``). Users add
theirs in ``fastinfer.toml``: tables ``[classify.NAME]`` and ``[chat.NAME]`` with ``extends = "PRESET"`` or
``backend = "ENGINE"``, an optional ``summary``, and the fields that differ.
"""

from __future__ import annotations

from fastinfer.preset_library.explanation import Explanation, ExplanationRow
from fastinfer.preset_library.fields import Advice, FieldDoc, Step, advice, field_docs, legal_range
from fastinfer.preset_library.files import user_preset_files
from fastinfer.preset_library.loader import as_preset, preset, presets
from fastinfer.preset_library.models import ModelChoice, default_model
from fastinfer.preset_library.preset import Preset
from fastinfer.preset_library.saving import save_preset
from fastinfer.preset_library.schema import (
    DecodeIn,
    Kind,
    LlamaChatParameters,
    LlamaClassifyParameters,
    Parameters,
    TurbomindClassifyParameters,
)

__all__ = [
    "Advice",
    "DecodeIn",
    "Explanation",
    "ExplanationRow",
    "FieldDoc",
    "Kind",
    "LlamaChatParameters",
    "LlamaClassifyParameters",
    "ModelChoice",
    "Parameters",
    "Preset",
    "Step",
    "TurbomindClassifyParameters",
    "advice",
    "as_preset",
    "default_model",
    "field_docs",
    "legal_range",
    "preset",
    "presets",
    "save_preset",
    "user_preset_files",
]
