"""llama.cpp's rows: the real build of this machine, a library that is not there, and builds that do not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fastinfer.engines.turbomind.gpus import Gpu
from fastinfer.machine.checks.llama import LlamaReading, judge, take

WANTED = "llama-cpp-python<0.4,>=0.3.36"
SYSTEM = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | LLAMAFILE = 1 | "
FLAGS = frozenset({"pni", "ssse3", "avx", "avx2", "f16c", "fma", "bmi2"})
PLAIN = LlamaReading(version="0.3.36", system=SYSTEM, devices=())
CUDA = dataclasses.replace(
    PLAIN, offload=True, system=f"CUDA : ARCHS = 800,900 | USE_GRAPHS = 1 | {SYSTEM}", devices=("CUDA0",), runtime=12080
)


def rows(reading: LlamaReading, **options: Any) -> Any:
    return judge(
        reading, **{"gpus": (), "driver": None, "flags": FLAGS, "wanted": WANTED, "environment": {}, **options}
    )


def test_the_build_of_this_machine_loads_and_fits_its_cpu(by_name: Any) -> None:
    reading = take()
    assert reading.problem == ""
    assert tuple(map(int, reading.version.split(".")[:3])) >= (0, 3, 36)
    found = by_name(rows(reading, flags=None))
    assert found["llama-cpp-python"].found == reading.version
    assert not reading.own_cpp
    assert "C++ library of llama.cpp" not in found
    assert "OPENMP" not in found["CPU features of llama.cpp"].found


def test_a_library_that_is_not_there_is_a_failure(
    by_name: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    reading = take()
    (row,) = by_name(rows(reading)).values()
    assert row.status == "fail"
    assert "cannot be imported" in row.found
    assert row.remedy == f"pip install --force-reinstall '{WANTED}'"
    (row,) = by_name(rows(reading, environment={"LLAMA_CPP_LIB_PATH": str(tmp_path)})).values()
    assert str(tmp_path) in row.meaning
    assert row.remedy == "unset LLAMA_CPP_LIB_PATH"


def test_one_that_does_not_answer_in_time_is_a_failure(by_name: Any) -> None:
    (row,) = by_name(rows(take(seconds=0.0))).values()
    assert row.status == "fail"
    assert "not answered after 0 seconds" in row.found


def test_a_crash_by_an_unknown_instruction_is_a_build_for_another_cpu(by_name: Any) -> None:
    (row,) = by_name(rows(LlamaReading(problem="It cannot be tried: its process ended with signal SIGILL."))).values()
    assert row.status == "fail"
    assert "built for a CPU that has more" in row.meaning
    assert row.remedy.startswith("CMAKE_ARGS='-DGGML_NATIVE=ON' pip install ")


def test_a_build_with_a_cpp_library_of_its_own_is_to_be_loaded_beside_the_systems(by_name: Any) -> None:
    name, own = "C++ library of llama.cpp", dataclasses.replace(PLAIN, own_cpp=True)
    row = by_name(rows(own))[name]
    assert (row.status, row.remedy) == ("warn", "export LD_PRELOAD=libstdc++.so.6")
    assert "segmentation fault" in row.meaning
    assert name not in by_name(rows(own, environment={"LD_PRELOAD": "/lib/libstdc++.so.6"}))


def test_a_build_for_the_cpu_is_right_without_a_gpu_and_a_waste_with_one(by_name: Any, h200: Gpu, p100: Gpu) -> None:
    name = "GPU support of llama.cpp"
    assert by_name(rows(PLAIN))[name].status == "ok"
    row = by_name(rows(PLAIN, gpus=(h200, p100)))[name]
    assert (row.status, row.found) == ("warn", "built for the CPU alone")
    assert "CMAKE_ARGS='-DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=60-real;90-real'" in row.remedy
    assert WANTED in row.remedy


def test_a_build_for_the_gpu_names_what_it_sees(by_name: Any, h200: Gpu) -> None:
    found = by_name(rows(CUDA, gpus=(h200,), driver=12080))
    assert {row.status for row in found.values()} == {"ok"}
    assert found["GPU support of llama.cpp"].found == "sees CUDA0"
    assert found["CUDA of llama.cpp"].found == "CUDA 12.8, the driver knows up to 12.8"


def test_a_build_for_the_gpu_on_a_machine_without_one_runs_on_the_cpu(by_name: Any) -> None:
    row = by_name(rows(dataclasses.replace(CUDA, devices=())))["GPU support of llama.cpp"]
    assert (row.status, row.found) == ("ok", "built with it, sees no GPU")


@pytest.mark.parametrize(
    ("capability", "status"),
    [((9, 0), "ok"), ((8, 0), "ok"), ((8, 9), "ok"), ((12, 0), "warn"), ((7, 5), "fail")],
)
def test_a_build_has_kernels_for_some_gpus(by_name: Any, capability: tuple[int, int], status: str) -> None:
    gpu = Gpu(0, "Card", 2**35, capability)
    row = by_name(rows(CUDA, gpus=(gpu,)))["GPU support of llama.cpp"]
    assert row.status == status
    if status != "ok":
        assert "built for compute capability 8.0, 9.0" in row.found
        assert f"Card ({capability[0]}.{capability[1]})" in row.meaning


def test_a_build_that_sees_none_of_the_gpus_is_a_failure(by_name: Any, h200: Gpu) -> None:
    row = by_name(rows(dataclasses.replace(CUDA, devices=()), gpus=(h200,)))["GPU support of llama.cpp"]
    assert (row.status, row.found) == ("fail", "sees no GPU")


def test_where_the_library_does_not_tell_its_gpus_none_is_missed(by_name: Any, h200: Gpu) -> None:
    assert (
        by_name(rows(dataclasses.replace(CUDA, devices=None), gpus=(h200,)))["GPU support of llama.cpp"].status == "ok"
    )


@pytest.mark.parametrize(
    ("system", "flags", "status", "said"),
    [
        (SYSTEM, FLAGS, "ok", "all that matters"),
        (SYSTEM, FLAGS | {"avx512f"}, "ok", "It also has AVX512, which matter less."),
        (SYSTEM.replace("AVX2 = 1 | ", ""), FLAGS, "warn", "The CPU has AVX2, which this build does not use"),
        (SYSTEM.replace("FMA = 1", "FMA = 0"), FLAGS, "warn", "The CPU has FMA"),
        (SYSTEM, FLAGS - {"avx2"}, "fail", "The CPU does not have AVX2"),
        ("CPU : NEON = 1 | DOTPROD = 1 | ", frozenset({"asimd", "asimddp"}), "ok", "all that matters"),
        ("CPU : NEON = 1 | ", frozenset({"asimd", "asimddp"}), "warn", "The CPU has DOTPROD"),
        (SYSTEM, None, "ok", "does not say what the CPU has"),
    ],
)
def test_what_the_build_uses_is_compared_with_what_the_cpu_has(
    by_name: Any, system: str, flags: frozenset[str] | None, status: str, said: str
) -> None:
    row = by_name(rows(dataclasses.replace(PLAIN, system=system), flags=flags))["CPU features of llama.cpp"]
    assert row.status == status
    assert said in row.meaning
