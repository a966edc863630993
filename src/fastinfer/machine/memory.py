"""How much memory there is and how much of it is free: of the machine, and of a GPU that an engine already uses."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from fastinfer.machine.checks.check import text_in
from fastinfer.machine.checks.limits import read_limits

__all__ = ["Memory", "device_memory", "host_memory", "meminfo"]

_KIB = 1024


class Memory(NamedTuple):
    """Memory in bytes: what is free, and all there is."""

    free: int
    total: int


def device_memory(device: str) -> Memory | None:
    """The memory of a GPU, asked of the engine that already uses it; None on a CPU and where it is not to be seen.

    Args:
        device: llama.cpp's name, ``"CUDA0"``, or ``"GPU"`` for its first one; or PyTorch's, ``"cuda:0"``, and of
            several the first.
    """
    if device.upper() == "CPU":
        return None
    torch: Any = sys.modules.get("torch")
    number = re.fullmatch(r"cuda:(\d+).*", device)
    if number is not None:
        return None if torch is None else Memory(*torch.cuda.mem_get_info(int(number[1])))
    if "llama_cpp" not in sys.modules:
        return None

    from fastinfer.engines.llama.binding import ggml
    from fastinfer.engines.llama.devices import device_handle, gpu_names

    names = gpu_names() or ()
    handle = device_handle(names[0] if device == "GPU" and names else device)
    if handle is None:
        return None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    ask = ggml.ggml_backend_dev_memory
    ask.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
    ask.restype = None
    ask(handle, ctypes.byref(free), ctypes.byref(total))
    return Memory(free.value, total.value)


def meminfo(root: Path) -> dict[str, int]:
    """Linux's own account of its memory, in bytes by its own names; empty where the system gives none.

    Args:
        root: folder that holds ``proc``.
    """
    text = text_in(root / "proc/meminfo") or ""
    return {key: int(number) * _KIB for key, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def host_memory(root: Path = Path("/")) -> Memory | None:
    """The machine's memory, or the container's where that is less; None where the system does not tell (not Linux).

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    sizes = meminfo(root)
    if not {"MemAvailable", "MemTotal"} <= set(sizes):
        return None
    limits = read_limits(root)
    free, total = [sizes["MemAvailable"], limits.available], [sizes["MemTotal"], limits.memory]
    return Memory(*(min(size for size in known if size is not None) for known in (free, total)))
