"""Models by name: from the package, from a path, or from the Hugging Face hub and its cache.

:func:`resolve_gguf` turns a name into files on this machine, fetching them where needed. :func:`check_gguf` reads the
header of a GGUF file and refuses one that is damaged or incomplete, so that native code never sees it.

:func:`resolve_checkpoint` and :func:`describe_checkpoint` are the same for checkpoints in Hugging Face's form, that is,
config.json with safetensors files; :func:`read_tensor` gives one tensor of them.

:func:`outline_gguf` and :func:`outline_checkpoint` find out what a model is without fetching more than its headers.
"""

from __future__ import annotations

from fastinfer.models.checkpoint import CheckpointInfo, describe_checkpoint
from fastinfer.models.checkpoint_by_name import Checkpoint, resolve_checkpoint
from fastinfer.models.checkpoint_parts import TextPart, VisionPart
from fastinfer.models.embedded_chat import EMBEDDED_CHAT
from fastinfer.models.gguf import GgufHeader, GgufTensor, check_gguf
from fastinfer.models.model import GgufModel, without_projector
from fastinfer.models.outlines import CheckpointOutline, GgufOutline, outline_checkpoint, outline_gguf
from fastinfer.models.resolve import resolve_gguf
from fastinfer.models.safetensors import TensorPlace, read_tensor

__all__ = [
    "EMBEDDED_CHAT",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointOutline",
    "GgufHeader",
    "GgufModel",
    "GgufOutline",
    "GgufTensor",
    "TensorPlace",
    "TextPart",
    "VisionPart",
    "check_gguf",
    "describe_checkpoint",
    "outline_checkpoint",
    "outline_gguf",
    "read_tensor",
    "resolve_checkpoint",
    "resolve_gguf",
    "without_projector",
]
