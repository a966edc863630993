"""The CPU: how many cores a process may use of it, and how they are laid out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

from fastinfer.engines.cores import usable_cores
from fastinfer.machine.checks.check import Check, text_in
from fastinfer.machine.checks.limits import read_limits

__all__ = ["CpuReading", "judge", "read"]

_AREA: Final = "cpu"
_NODE: Final = re.compile(r"node\d+")


@dataclass(frozen=True, slots=True)
class CpuReading:
    """The CPU.

    Attributes:
        usable: cores, in the system's counting, that this process may run on.
        present: cores of the machine, in the same counting.
        granted: CPU time that a container may take, in cores; None where there is no limit.
        doubled: a core runs two threads, each counted as one (SMT); None where the system does not tell.
        nodes: memory nodes: 1, or the number of sockets or so.
        flags: instruction sets in the kernel's words; None where the system does not tell.
    """

    usable: int
    present: int
    granted: float | None
    doubled: bool | None
    nodes: int
    flags: frozenset[str] | None


def read(root: Path) -> CpuReading:
    """Read about the CPU.

    Args:
        root: folder that holds ``proc`` and ``sys``; ``/`` for this machine.
    """
    doubled = text_in(root / "sys/devices/system/cpu/smt/active")
    nodes = root / "sys/devices/system/node"
    match = re.search(r"^(?:flags|Features)\s*:(.*)", text_in(root / "proc/cpuinfo") or "", re.MULTILINE)
    return CpuReading(
        usable=usable_cores(),
        present=os.cpu_count() or 1,
        granted=read_limits(root).cores,
        doubled=None if doubled is None else doubled == "1",
        nodes=max(1, sum(bool(_NODE.fullmatch(path.name)) for path in nodes.glob("node*"))),
        flags=None if match is None else frozenset(match[1].split()),
    )


def judge(reading: CpuReading) -> Iterator[Check]:
    """The rows on the CPU."""
    yield _cores(reading)
    if reading.nodes > 1:
        meaning = (
            "Memory of another node is slower to reach. Where several engines run on the CPU, bind each to a node: "
        )
        meaning += "numactl --cpunodebind=0 --membind=0 COMMAND."
        yield Check(_AREA, "memory nodes", "ok", str(reading.nodes), meaning)
    else:
        yield Check(_AREA, "memory nodes", "ok", "1", "All memory is equally near.")


def _cores(reading: CpuReading) -> Check:
    name = "cores"
    found = f"{reading.usable} of {reading.present} may be used"
    if reading.doubled:
        found += ", two of them to a physical core (SMT)"
    if reading.granted is not None and reading.granted < reading.usable:
        found += f", for the time of {reading.granted:g}"
        meaning = "The engines start a thread for each core that may be used, and the container's limit then stops all "
        meaning += "of them for a part of the time. Use no more cores than there is time for."
        return Check(_AREA, name, "warn", found, meaning, f"taskset -cp 0-{max(1, ceil(reading.granted)) - 1} $$")
    if reading.usable < reading.present:
        return Check(
            _AREA, name, "ok", found, "The process is kept from the others; the engines go by what it may use."
        )
    hint = " The second thread of a core adds little to the engines' speed." if reading.doubled else ""
    return Check(_AREA, name, "ok", found, f"The engines use all of them unless told otherwise.{hint}")
