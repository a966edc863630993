"""Memory as the system tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastinfer.machine.memory import Memory, device_memory, host_memory

MEMINFO = "MemTotal:       24684092 kB\nMemFree:          100000 kB\nMemAvailable:   20000000 kB\n"
KIB = 1024
WHOLE = Memory(20000000 * KIB, 24684092 * KIB)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def limited(root: Path, most: str, used: str = "0") -> Memory | None:
    (root / "sys/fs/cgroup/memory.max").write_text(f"{most}\n")
    (root / "sys/fs/cgroup/memory.current").write_text(f"{used}\n")
    return host_memory(root)


def test_a_machine_without_a_limit_has_its_own_memory(root: Path) -> None:
    assert host_memory(root) == WHOLE
    assert limited(root, "max") == WHOLE


def test_a_container_has_what_its_limit_leaves(root: Path) -> None:
    assert limited(root, str(8 * 2**30), str(3 * 2**30)) == Memory(5 * 2**30, 8 * 2**30)
    assert limited(root, str(2**40)) == WHOLE


def test_where_the_system_does_not_tell_nothing_is_said(tmp_path: Path) -> None:
    assert host_memory(tmp_path) is None


def test_a_cpu_has_no_memory_of_its_own() -> None:
    assert device_memory("CPU") is None
    assert device_memory("NOSUCH7") is None
