"""The memory of a real GPU: what the driver says of it, and another process that fills it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

__all__ = ["gpu_memory_used", "other_process_leaves"]

#: Bytes that CUDA and torch take of the GPU in the process that holds the rest.
_CONTEXT: Final = 600 * 2**20
_HOLD = "import torch, sys; held = torch.empty({}, dtype=torch.uint8, device='cuda'); print('held'); sys.stdin.read()"


def gpu_memory_used(gpu: int = 0) -> float:
    """MiB of the memory of that GPU that all programs hold; skips the test where nvidia-ml-py is not there."""
    used: int = _memory(gpu).used
    return used / 2**20


@contextmanager
def other_process_leaves(room: int) -> Iterator[None]:
    """While another process holds all of the first GPU's memory but about so many bytes."""
    program = _HOLD.format(_memory(0).free - room - _CONTEXT)
    with subprocess.Popen(
        [sys.executable, "-uc", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            yield
        finally:
            other.kill()


def _memory(gpu: int) -> Any:
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(gpu))
