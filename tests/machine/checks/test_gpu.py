"""GPUs' rows: none, hidden, a driver in trouble, memory that others hold, and what only the management library sees."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fastinfer.engines.turbomind.gpus import Gpu
from fastinfer.machine.checks import gpu
from fastinfer.machine.checks.gpu import GpuReading, built_in_gpus, driver_release, judge, take
from fastinfer.machine.checks.nvml import GpuState, Holder, ManagementReading

GIB = 2**30
NOT_INSTALLED = ManagementReading("nvidia-ml-py is not installed", installed=False)
DEVICE = "sys/bus/pci/devices/0000:01:00.0"


def state(index: int = 0, free: float = 130, **options: Any) -> GpuState:
    return GpuState(index, "NVIDIA H200", int(free * GIB), 140 * GIB, **options)


def managed(*states: GpuState) -> ManagementReading:
    return ManagementReading(release="570.86.15", states=states)


def rows(reading: GpuReading, *, built_in: int = 1, release: str = "", **environment: str) -> Any:
    return judge(reading, built_in=built_in, release=release, environment=environment)


def test_a_machine_without_a_driver_is_read_as_one() -> None:
    reading = take()
    assert reading.answered
    if reading.driver is not None:
        pytest.skip("there is an NVIDIA driver")
    assert reading.visible == ()
    assert "no NVIDIA driver" in reading.problem
    assert reading.management.problem


def test_no_gpu_is_fine(by_name: Any) -> None:
    (row,) = by_name(rows(GpuReading("no driver"), built_in=0)).values()
    assert (row.status, row.found) == ("ok", "no NVIDIA GPU")
    (row,) = by_name(rows(GpuReading("sees no GPU", driver=12080), built_in=0)).values()
    assert (row.status, row.found) == ("ok", "a driver, but no NVIDIA GPU")


def test_a_gpu_without_a_driver_wants_one(by_name: Any) -> None:
    (row,) = by_name(rows(GpuReading("There is no NVIDIA driver."), built_in=2)).values()
    assert (row.status, row.found) == ("warn", "2 NVIDIA GPUs, none to be used")
    assert row.remedy == "sudo ubuntu-drivers install"
    assert "docker run --gpus all" in row.meaning


def test_a_driver_that_does_not_start_is_a_failure(by_name: Any) -> None:
    reading = GpuReading("The NVIDIA driver does not start: CUDA error 803.", "Restart.", driver=12080)
    (row,) = by_name(rows(reading)).values()
    assert (row.status, row.found) == ("fail", "1 NVIDIA GPU, none to be used")
    assert row.meaning == "The NVIDIA driver does not start: CUDA error 803. Restart."


def test_a_driver_that_hangs_is_a_failure(by_name: Any) -> None:
    (row,) = by_name(rows(take(seconds=0.0), built_in=0)).values()
    assert (row.status, row.found) == ("fail", "does not answer")
    assert "not answered after 0 seconds" in row.meaning


def test_a_variable_that_hides_all_gpus_is_named(by_name: Any) -> None:
    (row,) = by_name(rows(GpuReading("sees no GPU.", driver=12080), CUDA_VISIBLE_DEVICES="")).values()
    assert (row.status, row.remedy) == ("warn", "unset CUDA_VISIBLE_DEVICES")
    assert "CUDA_VISIBLE_DEVICES is ''" in row.meaning


def test_gpus_are_described(by_name: Any, h200: Gpu) -> None:
    found = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=NOT_INSTALLED), release="570.86.15"))
    assert found["NVIDIA driver"].found == "driver 570.86.15, knows CUDA up to 12.8"
    assert found["GPUs to use"].found == "0: NVIDIA H200, 139.8 GiB, compute capability 9.0"
    assert {row.status for name, row in found.items() if name != "GPU state"} == {"ok"}


def test_some_hidden_gpus_are_a_choice_and_one_that_does_not_exist_is_a_mistake(by_name: Any, h200: Gpu) -> None:
    reading = GpuReading(driver=12080, visible=(h200,), management=NOT_INSTALLED)
    row = by_name(rows(reading, built_in=8, CUDA_VISIBLE_DEVICES="3"))["GPUs to use"]
    assert (row.status, row.meaning) == ("ok", "1 of the machine's 8: CUDA_VISIBLE_DEVICES is '3'.")
    row = by_name(rows(reading, built_in=8))["GPUs to use"]
    assert (row.status, "not passed on" in row.meaning) == ("ok", True)
    row = by_name(rows(reading, built_in=2, CUDA_VISIBLE_DEVICES="0,5,1"))["GPUs to use"]
    assert (row.status, row.remedy) == ("warn", "unset CUDA_VISIBLE_DEVICES")


def test_without_the_management_library_it_is_said_what_was_not_seen(by_name: Any, h200: Gpu) -> None:
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=NOT_INSTALLED)))["GPU state"]
    assert (row.status, row.remedy) == ("warn", "pip install 'fastinfer[gpu]'")
    for unseen in ("free memory and who holds it", "persistence mode", "nvidia-smi shows them"):
        assert unseen in row.meaning
    broken = ManagementReading("NVIDIA's management library does not start: Unknown Error")
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=broken)))["GPU state"]
    assert (row.status, row.remedy) == ("warn", "nvidia-smi")


def test_all_well_is_five_rows(by_name: Any, h200: Gpu) -> None:
    reading = GpuReading(driver=12080, visible=(h200,), management=managed(state(persistent=True, memory_errors=0)))
    found = by_name(rows(reading))
    assert list(found) == ["NVIDIA driver", "GPUs to use", "GPU memory", "persistence mode", "GPU health"]
    assert {row.status for row in found.values()} == {"ok"}
    assert found["NVIDIA driver"].found.startswith("driver 570.86.15")
    assert found["GPU memory"].found == "GPU 0: 130.0 GiB of 140.0 GiB free"


def test_who_holds_a_gpus_memory_is_named(by_name: Any, h200: Gpu) -> None:
    holders = (Holder(4321, "python3", 90 * GIB), Holder(99, "", None))
    taken = state(free=20, holders=holders)
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=managed(taken))))["GPU memory"]
    assert row.status == "warn"
    assert "held by python3 (pid 4321) 90.0 GiB, a process that may not be seen (pid 99)" in row.found
    assert row.remedy == "nvidia-smi"
    both = managed(taken, state(index=1))
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=both)))["GPU memory"]
    assert row.remedy == "export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1"


def test_memory_that_is_not_told_is_not_short(by_name: Any, h200: Gpu) -> None:
    unknown = dataclasses.replace(state(), free=None, total=None)
    found = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=managed(unknown))))
    assert (found["GPU memory"].status, found["GPU memory"].found) == ("ok", "GPU 0: not told")
    assert found["persistence mode"].found == "not told"


def test_persistence_mode_that_is_off_has_its_command(by_name: Any, h200: Gpu) -> None:
    states = managed(state(persistent=True), state(index=1, persistent=False))
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=states)))["persistence mode"]
    assert (row.status, row.found, row.remedy) == ("warn", "off for GPU 1", "sudo nvidia-smi -pm 1")


def test_errors_and_heat_are_told(by_name: Any, h200: Gpu) -> None:
    states = managed(state(memory_errors=2, slowed=("too hot (hardware limit)", "short of power")))
    row = by_name(rows(GpuReading(driver=12080, visible=(h200,), management=states)))["GPU health"]
    assert row.status == "warn"
    assert "GPU 0: 2 memory errors not corrected" in row.found
    assert "GPU 0: too hot (hardware limit) and short of power" in row.found


def test_a_reading_survives_its_way_between_processes(h200: Gpu) -> None:
    reading = GpuReading(driver=12080, visible=(h200,), management=managed(state(holders=(Holder(1, "a", 2),))))
    assert gpu._from_json(dataclasses.asdict(reading)) == reading


def test_gpus_are_found_on_the_bus_and_in_the_drivers_list(write: Any) -> None:
    assert built_in_gpus(write({})) == 0
    root = write({f"{DEVICE}/vendor": "0x10de\n", f"{DEVICE}/class": "0x030200\n"})
    assert built_in_gpus(root) == 1
    write({f"{DEVICE}.1/vendor": "0x10de\n", f"{DEVICE}.1/class": "0x040300\n"})  # its sound device
    write({f"{DEVICE}.2/vendor": "0x1002\n", f"{DEVICE}.2/class": "0x030000\n"})  # another maker's
    assert built_in_gpus(root) == 1
    write({f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information": "Model: x" for number in (1, 2)})
    assert built_in_gpus(root) == 2


def test_the_drivers_release_is_read_from_the_kernel(write: Any) -> None:
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@x)\n"
    assert driver_release(write({})) == ""
    assert driver_release(write({"proc/driver/nvidia/version": line})) == "570.86.15"
    newer = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x@y)\n"
    assert driver_release(write({"proc/driver/nvidia/version": newer})) == "580.159.04"
