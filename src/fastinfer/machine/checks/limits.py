"""What a container or a service may take of the machine: the limits of its control group, Linux's versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastinfer.machine.checks.check import number_in, text_in

__all__ = ["Limits", "read_limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a process.

    Attributes:
        cores: CPU time it may take, in cores; None where there is no limit.
        memory: bytes it may take; None where there is no limit.
        available: bytes of these that are left, the file cache counted as free; None where there is no limit.
    """

    cores: float | None = None
    memory: int | None = None
    available: int | None = None


def read_limits(root: Path) -> Limits:
    """The narrowest limits of this process's control group and those above it.

    Args:
        root: folder that holds ``proc`` and ``sys``; ``/`` for this machine.
    """
    cores = [cores for folder in _groups(root, "cpu") if (cores := _cores(folder)) is not None]
    memory = [both for folder in _groups(root, "memory") if (both := _memory(folder)) is not None]
    return Limits(
        cores=min(cores, default=None),
        memory=min((limit for limit, _ in memory), default=None),
        available=min((left for _, left in memory), default=None),
    )


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of the process's control group and those above it, as far as they are shown here."""
    for line in (text_in(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one tree for all controllers, version 1 one for each.
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = top / path.strip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top) and each.is_dir())


def _cores(folder: Path) -> float | None:
    quota, _, period = (text_in(folder / "cpu.max") or "").partition(" ")
    if not quota:
        quota, period = (str(number_in(folder / f"cpu.cfs_{each}_us")) for each in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory(folder: Path) -> tuple[int, int] | None:
    limit, used, cached = number_in(folder / "memory.max"), number_in(folder / "memory.current"), "inactive_file"
    if limit is None:
        limit, used = number_in(folder / "memory.limit_in_bytes"), number_in(folder / "memory.usage_in_bytes")
        cached = "total_inactive_file"
    # Without a limit, version 1 has the largest number of pages.
    if limit is None or used is None or limit > 2**60:
        return None
    rows = (line.partition(" ") for line in (text_in(folder / "memory.stat") or "").splitlines())
    free_again = next((int(value) for key, _, value in rows if key == cached and value.isdigit()), 0)
    return limit, max(0, limit - used + free_again)
