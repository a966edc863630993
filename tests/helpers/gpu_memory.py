"""What the driver says of a GPU's memory."""

from __future__ import annotations

import pytest

__all__ = ["gpu_memory_used"]


def gpu_memory_used(gpu: int = 0) -> float:
    """MiB of the memory of that GPU that all programs hold; skips the test where nvidia-ml-py is not there."""
    pynvml = pytest.importorskip("pynvml")
    pynvml.nvmlInit()
    used: int = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(gpu)).used
    return used / 2**20
