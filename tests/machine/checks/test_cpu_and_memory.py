"""Cores and memory, a container's limits counted in, read from files as the kernel writes them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fastinfer.engines.cores import usable_cores
from fastinfer.machine.checks import cpu, memory
from fastinfer.machine.checks.cpu import CpuReading
from fastinfer.machine.checks.limits import Limits, read_limits
from fastinfer.machine.checks.memory import MemoryReading

GIB = 2**30
SERVICE = "sys/fs/cgroup/system.slice/jobs.service"
VERSION_2 = {
    "proc/self/cgroup": "0::/system.slice/jobs.service\n",
    f"{SERVICE}/cpu.max": "150000 100000\n",
    f"{SERVICE}/memory.max": "max\n",
    f"{SERVICE}/memory.current": f"{GIB}\n",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/memory.max": f"{4 * GIB}\n",
    "sys/fs/cgroup/system.slice/memory.current": f"{3 * GIB}\n",
    "sys/fs/cgroup/system.slice/memory.stat": f"anon 5\ninactive_file {GIB // 2}\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
}
MEMORY = (
    "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n"
    "SwapTotal:       1048576 kB\nSwapFree:         262144 kB\n"
)
PLAIN = CpuReading(usable=8, present=8, granted=None, doubled=False, nodes=1, flags=frozenset())


def test_the_narrowest_limit_above_a_process_counts(write: Any) -> None:
    assert read_limits(write(VERSION_2)) == Limits(1.5, 4 * GIB, 3 * GIB // 2)


def test_limits_of_version_1_are_read_too(write: Any) -> None:
    assert read_limits(write(VERSION_1)) == Limits(0.5, 2 * GIB, GIB)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n"},
        {"proc/self/cgroup": "nonsense\n0::/\n", "sys/fs/cgroup/cpu.max": "a b\n", "sys/fs/cgroup/memory.max": "x\n"},
        {"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "100000 0\n"},
        {
            "proc/self/cgroup": "3:cpu:/\n4:memory:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
        },
    ],
)
def test_without_limits_there_are_none(write: Any, files: dict[str, str]) -> None:
    assert read_limits(write(files)) == Limits()


def test_the_cpu_is_read(write: Any) -> None:
    files = {
        **VERSION_2,
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n",
        "sys/devices/system/cpu/smt/active": "1\n",
        "sys/devices/system/node/node0/cpulist": "0\n",
        "sys/devices/system/node/node1/cpulist": "1\n",
        "sys/devices/system/node/possible": "0-1\n",
    }
    reading = cpu.read(write(files))
    assert reading.usable == usable_cores()
    assert (reading.granted, reading.doubled, reading.nodes) == (1.5, True, 2)
    assert reading.flags == {"fpu", "avx2", "fma"}


def test_a_cpu_of_another_kind_says_its_flags_otherwise(write: Any) -> None:
    assert cpu.read(write({"proc/cpuinfo": "Features\t: fp asimd asimddp\n"})).flags == {"fp", "asimd", "asimddp"}


def test_a_system_that_tells_nothing_is_read(write: Any, by_name: Any) -> None:
    reading = cpu.read(write({}))
    assert (reading.granted, reading.doubled, reading.nodes, reading.flags) == (None, None, 1, None)
    assert {row.status for row in by_name(cpu.judge(reading)).values()} == {"ok"}
    found = by_name(memory.judge(memory.read(write({})), gpus=0))
    assert found["available memory"].found == "not told"
    assert found["transparent huge pages"].found == "not told"


def test_a_limit_below_the_cores_is_a_warning(by_name: Any) -> None:
    row = by_name(cpu.judge(dataclasses.replace(PLAIN, granted=2.5)))["cores"]
    assert (row.status, row.remedy) == ("warn", "taskset -cp 0-2 $$")
    assert row.found == "8 of 8 may be used, for the time of 2.5"
    assert by_name(cpu.judge(dataclasses.replace(PLAIN, granted=8.0)))["cores"].status == "ok"


def test_cores_and_nodes_are_explained(by_name: Any) -> None:
    found = by_name(cpu.judge(dataclasses.replace(PLAIN, usable=4, doubled=True, nodes=2)))
    assert found["cores"].found == "4 of 8 may be used, two of them to a physical core (SMT)"
    assert found["memory nodes"].found == "2"
    assert "numactl --cpunodebind=0" in found["memory nodes"].meaning


def test_memory_is_read_with_the_containers_limit(write: Any) -> None:
    root = write(
        {**VERSION_2, "proc/meminfo": MEMORY, "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n"}
    )
    reading = memory.read(root)
    assert (reading.total, reading.available, reading.limit) == (16 * GIB, 3 * GIB // 2, 4 * GIB)
    assert reading.swap == (GIB, GIB // 4)
    assert reading.huge_pages == "madvise"
    assert reading.shared is None
    assert memory.read(write({"proc/self/cgroup": ""})).available == 8 * GIB


def test_this_machine_is_read(by_name: Any) -> None:
    root = Path("/")
    names = ["available memory", "swap", "transparent huge pages", "shared memory", "open files", "locked memory"]
    assert list(by_name(memory.judge(memory.read(root), gpus=0))) == names
    assert list(by_name(cpu.judge(cpu.read(root)))) == ["cores", "memory nodes"]


@pytest.mark.parametrize(
    ("name", "bad", "good", "said"),
    [
        ("available memory", {"available": GIB // 2}, {"available": 4 * GIB, "limit": 8 * GIB}, "512 MiB"),
        ("swap", {"swap": (GIB, GIB // 4)}, {"swap": (GIB, GIB)}, "768 MiB of 1.0 GiB taken"),
        ("shared memory", {"shared": 64 * 2**20}, {"shared": 8 * GIB}, "64 MiB"),
        ("open files", {"files": 256}, {"files": -1}, "256 a process"),
    ],
)
def test_what_is_short_is_a_warning(by_name: Any, name: str, bad: Any, good: Any, said: str) -> None:
    row = by_name(memory.judge(MemoryReading(**bad), gpus=2))[name]
    assert (row.status, row.found) == ("warn", said)
    assert by_name(memory.judge(MemoryReading(**good), gpus=2))[name].status == "ok"


def test_shared_memory_matters_only_to_several_gpus(by_name: Any) -> None:
    assert by_name(memory.judge(MemoryReading(shared=2**20), gpus=1))["shared memory"].status == "ok"


@pytest.mark.parametrize(("locked", "said"), [(None, "not told"), (-1, "no limit"), (8 * 2**20, "8 MiB")])
def test_locked_memory_is_reported_alone(by_name: Any, locked: int | None, said: str) -> None:
    row = by_name(memory.judge(MemoryReading(locked=locked), gpus=0))["locked memory"]
    assert (row.status, row.found) == ("ok", said)
