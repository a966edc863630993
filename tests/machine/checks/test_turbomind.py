"""TurboMind's rows: without it, with packages that cannot be imported, and with GPUs and versions that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastinfer.engines.turbomind.gpus import Gpu
from fastinfer.machine.checks.turbomind import TurbomindReading, built_for, judge, take

WANTED = "lmdeploy<0.19,>=0.18"
GOOD = TurbomindReading(torch="2.11.0+cu128", torch_cuda="12.8", runtime=12080)


def rows(version: str | None, reading: TurbomindReading | None = None, **options: Any) -> Any:
    return judge(version, reading, **{"gpus": (), "driver": 12080, "cuda": 12, "wanted": WANTED, **options})


def lmdeploy(write: Any, monkeypatch: pytest.MonkeyPatch, text: str, engine: str = "") -> Path:
    """A package of this name that is imported before any other, and the folder that it is in."""
    folder: Path = write(
        {
            "lmdeploy/__init__.py": text,
            "lmdeploy/vl/media/image.py": "",
            "lmdeploy/turbomind/__init__.py": engine,
            "torch/__init__.py": "__version__ = '2.11.0'\nfrom . import version\n",
            "torch/version.py": "cuda = '12.8'\n",
        }
    )
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_without_a_gpu_it_is_not_needed_and_with_one_it_is_missed(by_name: Any, h200: Gpu) -> None:
    (row,) = by_name(rows(None)).values()
    assert (row.status, row.found) == ("ok", "not installed, not needed here")
    (row,) = by_name(rows(None, gpus=(h200,))).values()
    assert (row.status, row.remedy) == ("warn", "pip install 'fastinfer[turbomind]'")


def test_without_a_gpu_it_is_not_tried(by_name: Any) -> None:
    (row,) = by_name(rows("0.18.0")).values()
    assert (row.status, row.found) == ("ok", "LMDeploy 0.18.0, built for CUDA 12")
    assert "Not tried" in row.meaning


def test_another_version_is_refused(by_name: Any, h200: Gpu) -> None:
    (row,) = by_name(rows("0.17.3")).values()
    assert (row.status, row.remedy) == ("warn", f"pip install '{WANTED}'")
    (row,) = by_name(rows("0.19.0", gpus=(h200,))).values()
    assert row.status == "fail"


def test_a_whole_installation_is_three_rows(by_name: Any, h200: Gpu) -> None:
    found = by_name(rows("0.18.0", GOOD, gpus=(h200,)))
    assert {name: row.status for name, row in found.items()} == {
        "TurboMind": "ok",
        "CUDA of TurboMind": "ok",
        "GPUs for TurboMind": "ok",
    }
    assert found["TurboMind"].found == "LMDeploy 0.18.0, built for CUDA 12, torch 2.11.0+cu128 for CUDA 12.8"


def test_a_torch_without_cuda_is_a_failure(by_name: Any, h200: Gpu) -> None:
    (row,) = by_name(rows("0.18.0", TurbomindReading(torch="2.11.0+cpu"), gpus=(h200,))).values()
    assert (row.status, "without CUDA" in row.meaning) == ("fail", True)


def test_a_gpu_that_is_too_old_is_named(by_name: Any, h200: Gpu, p100: Gpu) -> None:
    row = by_name(rows("0.18.0", GOOD, gpus=(h200, p100)))["GPUs for TurboMind"]
    assert row.status == "warn"
    assert "Tesla P100-PCIE-16GB (6.0)" in row.found
    assert "7.0 or newer" in row.meaning


def test_the_import_is_tried_in_a_process_of_its_own(
    by_name: Any, write: Any, monkeypatch: pytest.MonkeyPatch, h200: Gpu
) -> None:
    lmdeploy(write, monkeypatch, "__version__ = '0.18.0'\nprint('hello')\n")
    assert take() == TurbomindReading(torch="2.11.0", torch_cuda="12.8")
    lmdeploy(write, monkeypatch, "__version__ = '0.18.0'\n", "_import_error = OSError('libcublas.so.12: no such file')")
    reading = take()
    (row,) = by_name(rows("0.18.0", reading, gpus=(h200,))).values()
    assert (row.status, row.remedy) == ("fail", "pip install 'fastinfer[turbomind]'")
    assert "libcublas.so.12: no such file" in row.meaning


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "it needs no_such_module, which is not there"),
        ("raise OSError('libcudart.so.12: cannot open')", "libcudart.so.12: cannot open"),
        ("__version__ = '0.17.0'", "LMDeploy 0.17.0 is not supported"),
        ("import os; os.abort()", "ended with"),
    ],
)
def test_an_import_that_fails_says_why(write: Any, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    lmdeploy(write, monkeypatch, text)
    assert said in take().problem


def test_the_version_of_cuda_is_read_from_the_library(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lmdeploy(write, monkeypatch, "raise AssertionError('imported')")
    library = folder / "lmdeploy" / "turbomind" / "_turbomind.cpython-312-x86_64-linux-gnu.so"
    assert built_for() is None
    library.write_bytes(b"")
    assert built_for() is None
    library.write_bytes(b"\x7fELF\0libcublas.so.13\0libcudart.so.13\0")
    assert built_for() == 13
