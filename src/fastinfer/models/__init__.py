"""Models by name: from the package, from a path, or from the Hugging Face hub and its cache.

:func:`resolve_gguf` turns a name into files on this machine, fetching them where needed. :func:`check_gguf` reads the
header of a GGUF file and refuses one that is damaged or incomplete, so that native code never sees it.
"""

from __future__ import annotations

from fastinfer.models.embedded_chat import EMBEDDED_CHAT
from fastinfer.models.gguf import GgufHeader, GgufTensor, check_gguf
from fastinfer.models.model import GgufModel
from fastinfer.models.resolve import resolve_gguf

__all__ = ["EMBEDDED_CHAT", "GgufHeader", "GgufModel", "GgufTensor", "check_gguf", "resolve_gguf"]
