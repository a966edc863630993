"""The embedded model as a checkpoint in Hugging Face's form, for engines that read those."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def write_embedded_checkpoint(folder: Path) -> Path:
    """Write it to a new folder; needs torch, transformers and gguf."""
    command = [sys.executable, "to_huggingface.py", str(_ROOT / "src/fastinfer/models/embedded"), str(folder)]
    subprocess.run(command, cwd=_ROOT / "training", check=True, capture_output=True)
    return folder
