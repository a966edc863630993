"""llama.cpp: does it load, was it built for the GPU that is here, and does it use what the CPU has."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastinfer.engines.turbomind.gpus import Gpu, dotted
from fastinfer.errors import EngineUnavailableError
from fastinfer.machine.checks.check import Check
from fastinfer.machine.checks.child import ask
from fastinfer.machine.checks.cuda import against_driver, loaded_runtime

__all__ = ["LlamaReading", "judge", "read", "take"]

_AREA: Final = "engines"
_PATIENCE: Final = 30.0  # seconds; the first call to a GPU's driver takes some of them
_LIBRARY: Final = "LLAMA_CPP_LIB_PATH"  # where llama-cpp-python looks for the library in place of its own
_PRELOAD: Final = "LD_PRELOAD"  # what Linux loads into a process before anything else
_CPP: Final = "libstdc++.so.6"
#: What ggml calls an instruction set, and what the kernel does (/proc/cpuinfo, "flags" or "Features").
_FLAGS: Final = {
    "SSE3": "pni", "SSSE3": "ssse3", "AVX": "avx", "AVX2": "avx2", "F16C": "f16c", "FMA": "fma", "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni", "AVX512": "avx512f", "AVX512_VBMI": "avx512vbmi", "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16", "AMX_INT8": "amx_int8", "NEON": "asimd", "DOTPROD": "asimddp", "FP16_VA": "asimdhp",
    "MATMUL_INT8": "i8mm", "SVE": "sve", "SME": "sme",
}  # fmt: skip
#: Those without which llama.cpp is several times slower.
_ESSENTIAL: Final = ("AVX", "AVX2", "F16C", "FMA", "NEON", "DOTPROD")


@dataclass(frozen=True, slots=True)
class LlamaReading:
    """What llama.cpp says of itself.

    Attributes:
        problem: why it cannot be loaded, or empty; the rest is then without a meaning.
        advice: what to do about that, in words.
        version: of llama-cpp-python.
        offload: it was built with support for a GPU of any kind.
        system: what ``llama_print_system_info`` says: instruction sets, and for CUDA the architectures.
        devices: the GPUs it sees by its own names; None where it does not tell.
        runtime: the CUDA run-time library it loaded, by CUDA's number, or None.
        own_cpp: the C++ library is inside it, in place of the system's that other packages use.
    """

    problem: str = ""
    advice: str = ""
    version: str = ""
    offload: bool = False
    system: str = ""
    devices: Sequence[str] | None = None
    runtime: int | None = None
    own_cpp: bool = False


def take(seconds: float = _PATIENCE) -> LlamaReading:
    """Read in a process of its own: a library that was built for another CPU ends the process that loads it.

    Args:
        seconds: how long it may take.
    """
    try:
        return LlamaReading(**ask(__name__, seconds))
    except EngineUnavailableError as error:
        return LlamaReading(problem=f"llama-cpp-python cannot be tried: {error}.")


def read() -> LlamaReading:
    """Load llama.cpp into this process, no model, and ask it."""
    try:
        from fastinfer.engines.llama.binding import VERSION, ggml, llama
        from fastinfer.engines.llama.devices import gpu_names
    except EngineUnavailableError as error:
        return LlamaReading(problem=error.message, advice=error.hint or "")
    return LlamaReading(
        version=VERSION,
        offload=bool(llama.llama_supports_gpu_offload()),
        system=llama.llama_print_system_info().decode("utf-8", "replace"),
        devices=gpu_names(),
        runtime=loaded_runtime(),
        own_cpp=sys.platform.startswith("linux") and not _asks_for_cpp(Path(ggml._name)),
    )


def _asks_for_cpp(library: Path) -> bool:
    """Whether a shared library names one of the C++ libraries among those it needs."""
    content = library.read_bytes()
    return b"libstdc++.so" in content or b"libc++.so" in content


def judge(
    reading: LlamaReading,
    *,
    gpus: Sequence[Gpu],
    driver: int | None,
    flags: frozenset[str] | None,
    wanted: str,
    environment: Mapping[str, str],
) -> Iterator[Check]:
    """The rows on llama.cpp.

    Args:
        reading: what it says of itself.
        gpus: the NVIDIA GPUs that this process may use.
        driver: newest version of CUDA that the driver knows, by CUDA's number.
        flags: what the CPU has, in the kernel's words; None where the system does not tell.
        wanted: llama-cpp-python with its supported versions, for pip.
        environment: as ``os.environ``.
    """
    name = "llama-cpp-python"
    if reading.problem:
        meaning, remedy = reading.advice, f"pip install --force-reinstall '{wanted}'"
        if elsewhere := environment.get(_LIBRARY):
            meaning, remedy = f"{_LIBRARY} has the library taken from {elsewhere}.", f"unset {_LIBRARY}"
        elif "SIGILL" in reading.problem:
            meaning = "It was built for a CPU that has more than this one."
            remedy = _build(wanted, "-DGGML_NATIVE=ON")
        yield Check(_AREA, name, "fail", reading.problem, meaning or "No model can run on llama.cpp.", remedy)
        return
    yield Check(_AREA, name, "ok", reading.version, "Loads, is a supported version, and has every function in use.")
    yield _gpu_support(reading, gpus, wanted)
    yield from against_driver("llama.cpp", reading.runtime, driver)
    if reading.own_cpp and _CPP not in environment.get(_PRELOAD, ""):
        # Seen with a CUDA build: import numpy, then load a model; or load a model, then draw with matplotlib.
        yield Check(
            *(_AREA, "C++ library of llama.cpp", "warn", "one of its own inside"),
            "Packages such as numpy and matplotlib use the system's. Where both are in a process, loading a model or "
            "drawing can end it with a segmentation fault.",
            f"export {_PRELOAD}={_CPP}",
        )
    yield _instruction_sets(reading.system, flags, wanted)


def _gpu_support(reading: LlamaReading, gpus: Sequence[Gpu], wanted: str) -> Check:
    name, seen = "GPU support of llama.cpp", ", ".join(reading.devices or ())
    cuda = f"-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES={_architectures(gpus)}"
    if not reading.offload:
        if not gpus:
            return Check(_AREA, name, "ok", "built for the CPU alone", "There is no NVIDIA GPU here that it could use.")
        meaning = "There is an NVIDIA GPU, and nothing that llama.cpp runs would use it. CUDA's compiler is needed."
        return Check(_AREA, name, "warn", "built for the CPU alone", meaning, _build(wanted, cuda))
    built = _built_for(reading.system)
    if unfit := [gpu for gpu in gpus if built and not _has_kernels(gpu.capability, built)]:
        found = f"built for compute capability {', '.join(map(dotted, built))}"
        named = ", ".join(f"{gpu.name} ({dotted(gpu.capability)})" for gpu in unfit)
        # The list does not say whether the kernels' source is included, which the driver could compile.
        possible = all(gpu.capability > built[0] for gpu in unfit)
        meaning = f"It has no kernels for {named}" + (
            ": if it includes their source, the first start takes minutes; else it fails." if possible else "."
        )
        return Check(_AREA, name, "warn" if possible else "fail", found, meaning, _build(wanted, cuda))
    if gpus and reading.devices is not None and not reading.devices:
        meaning = "It was built with support for GPUs and sees none of those that the NVIDIA driver sees: it was built "
        meaning += "for another kind, or for a newer CUDA than the driver's."
        return Check(_AREA, name, "fail", "sees no GPU", meaning, _build(wanted, cuda))
    found = f"sees {seen}" if seen else "built with it, sees no GPU"
    return Check(_AREA, name, "ok", found, "Models can be placed on these." if seen else "Models run on the CPU.")


def _instruction_sets(system: str, flags: frozenset[str] | None, wanted: str) -> Check:
    name = "CPU features of llama.cpp"
    used = [feature for feature in _FLAGS if re.search(rf"\b{feature} = [^0]", system)]
    found = ", ".join(used) or "none"
    if flags is None:
        return Check(_AREA, name, "ok", found, "Used by this build; this system does not say what the CPU has.")
    if excess := [feature for feature in used if _FLAGS[feature] not in flags]:
        meaning = f"The CPU does not have {', '.join(excess)}: the process would end with an illegal instruction."
        return Check(_AREA, name, "fail", found, meaning, _build(wanted, "-DGGML_NATIVE=ON"))
    unused = [feature for feature, flag in _FLAGS.items() if flag in flags and feature not in used]
    if missed := [feature for feature in unused if feature in _ESSENTIAL]:
        meaning = f"The CPU has {', '.join(missed)}, which this build does not use: it is several times slower than it "
        meaning += "could be."
        return Check(_AREA, name, "warn", found, meaning, _build(wanted, "-DGGML_NATIVE=ON"))
    rest = f" It also has {', '.join(unused)}, which matter less." if unused else ""
    return Check(_AREA, name, "ok", found, f"Used by this build, with all that matters of what the CPU has.{rest}")


def _built_for(system: str) -> list[tuple[int, int]]:
    """The compute capabilities in ggml's list, whose numbers are 10 times the capability's, times 10 (900 is 9.0)."""
    match = re.search(r"\bARCHS = ([\d,]+)", system)
    numbers = sorted({int(number) for number in match[1].split(",") if number}) if match else []
    return [(number // 100, number % 100 // 10) for number in numbers]


def _has_kernels(capability: tuple[int, int], built: Sequence[tuple[int, int]]) -> bool:
    """Whether kernels for any of some compute capabilities run on a GPU: those for its own major one, not above it."""
    return any(each[0] == capability[0] and each <= capability for each in built)


def _architectures(gpus: Sequence[Gpu]) -> str:
    return ";".join(sorted({f"{gpu.capability[0]}{gpu.capability[1]}-real" for gpu in gpus}))


def _build(wanted: str, options: str) -> str:
    return (
        f"CMAKE_ARGS='{options}' pip install --force-reinstall --no-deps --no-cache-dir "
        f"--no-binary llama-cpp-python '{wanted}'"
    )
