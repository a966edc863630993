"""CUDA's versions: a driver runs what is older than itself, and hardly what is newer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fastinfer.machine.checks.cuda import against_driver, loaded_runtime, spoken


@pytest.mark.parametrize(("number", "said"), [(12080, "12.8"), (13000, "13.0"), (11040, "11.4")])
def test_versions_are_said_as_people_say_them(number: int, said: str) -> None:
    assert spoken(number) == said


@pytest.mark.parametrize(
    ("runtime", "driver", "status"),
    [(12080, 12080, "ok"), (11080, 13000, "ok"), (12080, 12040, "warn"), (13000, 12080, "fail")],
)
def test_the_driver_is_compared_with_the_run_time(by_name: Any, runtime: int, driver: int, status: str) -> None:
    row = by_name(against_driver("llama.cpp", runtime, driver))["CUDA of llama.cpp"]
    assert (row.area, row.status) == ("engines", status)
    assert spoken(runtime) in row.found
    assert spoken(driver) in row.found


@pytest.mark.parametrize(("runtime", "driver"), [(None, 12080), (12080, None)])
def test_what_is_not_known_is_not_compared(runtime: int | None, driver: int | None) -> None:
    assert list(against_driver("llama.cpp", runtime, driver)) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list what is loaded")
def test_a_process_without_cuda_has_no_run_time(tmp_path: Path) -> None:
    assert loaded_runtime(tmp_path / "no such file") is None
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 00000000 08:01 1 {os.fspath(tmp_path)}/libcudart.so.12\n", "utf-8")
    assert loaded_runtime(maps) is None  # named, and no library
