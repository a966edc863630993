"""The GPUs that this build of llama.cpp can compute on, by its own names for them."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from fastinfer.engines.llama.binding import ggml, llama
from fastinfer.errors import EngineUnavailableError

__all__ = ["device_handle", "gpu_names", "main_gpu", "placement", "turn_cuda_graphs_off"]

_CPU: Final = "cpu"
_GPU, _INTEGRATED_GPU = 1, 2  # ggml_backend_dev_type


def gpu_names() -> tuple[str, ...] | None:
    """The GPUs in llama.cpp's order, ``("CUDA0", "CUDA1")`` for example.

    Integrated GPUs are among them only where there is no other, as llama.cpp uses them. None where the library does
    not tell (on Windows, where ggml is a library of its own).
    """
    try:
        count, get = ggml.ggml_backend_dev_count, ggml.ggml_backend_dev_get
        name, kind = ggml.ggml_backend_dev_name, ggml.ggml_backend_dev_type
    except AttributeError:
        return None
    count.argtypes, count.restype = [], ctypes.c_size_t
    get.argtypes, get.restype = [ctypes.c_size_t], ctypes.c_void_p
    name.argtypes, name.restype = [ctypes.c_void_p], ctypes.c_char_p
    kind.argtypes, kind.restype = [ctypes.c_void_p], ctypes.c_int
    devices = [get(index) for index in range(count())]
    found = {wanted: [d for d in devices if kind(d) == wanted] for wanted in (_GPU, _INTEGRATED_GPU)}
    return tuple(name(d).decode("utf-8", "replace") for d in found[_GPU] or found[_INTEGRATED_GPU])


def turn_cuda_graphs_off() -> bool:
    """Have ggml launch kernels one by one on NVIDIA GPUs, for the whole process.

    ggml looks once, at the first computation on a GPU; where there was one before, nothing changes.

    Returns:
        Whether there is an NVIDIA GPU that this concerns.
    """
    if not any(name.startswith("CUDA") for name in gpu_names() or ()):
        return False
    os.environ.setdefault("GGML_CUDA_DISABLE_GRAPHS", "1")
    return True


def device_handle(device: str) -> int | None:
    """ggml's handle of a device by llama.cpp's name for it, ``"CUDA0"`` for example; None where it does not tell."""
    try:
        find = ggml.ggml_backend_dev_by_name
    except AttributeError:
        return None
    find.argtypes, find.restype = [ctypes.c_char_p], ctypes.c_void_p
    handle: int | None = find(device.encode())
    return handle


def main_gpu(device: str) -> int:
    """The number by which llama.cpp's ``main_gpu`` means a device; -1 means none of them, the CPU alone.

    Args:
        device: llama.cpp's name for it in any case, ``"CUDA0"`` or ``"CPU"`` for example.

    Raises:
        EngineUnavailableError: there is no such device, or llama.cpp was built without support for it.
    """
    if device.lower() == _CPU:
        return -1
    names = gpu_names()
    if names is None and llama.llama_supports_gpu_offload():
        return int("".join(filter(str.isdigit, device)) or 0)
    known = [name.lower() for name in names or ()]
    if device.lower() in known:
        return known.index(device.lower())
    if known:
        raise EngineUnavailableError(
            f"There is no device {device!r}; llama.cpp sees {', '.join(names or ())}.",
            hint="Name one of them; CUDA_VISIBLE_DEVICES hides NVIDIA GPUs from the process.",
        )
    built = llama.llama_supports_gpu_offload()
    raise EngineUnavailableError(
        f"There is no device {device!r}: "
        + ("llama.cpp sees no GPU." if built else "this llama-cpp-python was built for the CPU alone."),
        hint="For the CPU set device='CPU' and n_gpu_layers=0; for an NVIDIA GPU "
        + ("check that nvidia-smi shows it." if built else "reinstall it with CMAKE_ARGS=-DGGML_CUDA=ON."),
    )


def placement(device: str | None, n_gpu_layers: int) -> dict[str, int]:
    """The keywords of ``Llama`` that put a model onto a device.

    Args:
        device: llama.cpp's name for it, ``"CUDA0"`` for example; ``"CPU"`` means no GPU whatever ``n_gpu_layers`` is.
            None leaves the choice of GPUs to llama.cpp.
        n_gpu_layers: layers on the GPU; 0 none, -1 all.

    Raises:
        EngineUnavailableError: there is no such device, or layers are to be on a GPU and llama.cpp was built without.
    """
    if device is None:
        if n_gpu_layers and not llama.llama_supports_gpu_offload():
            raise EngineUnavailableError(
                f"n_gpu_layers is {n_gpu_layers}, and this llama-cpp-python was built for the CPU alone.",
                hint="Reinstall it with CMAKE_ARGS=-DGGML_CUDA=ON, or set n_gpu_layers=0.",
            )
        return {"n_gpu_layers": n_gpu_layers}
    number = main_gpu(device)
    return {
        "n_gpu_layers": 0 if number < 0 else n_gpu_layers,
        "split_mode": llama.LLAMA_SPLIT_MODE_NONE,
        "main_gpu": number,
    }
