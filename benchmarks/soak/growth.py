"""Memory while something runs, and the line through it."""

from __future__ import annotations

import ctypes
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import psutil

from ..classify_gpu.watch import memory

_MB = 2**20
#: Samples that lie close together are not independent; a span's mean nearly is.
_SPANS = 20


def _descriptors(process: psutil.Process) -> int:
    return process.num_fds() if hasattr(process, "num_fds") else process.num_handles()


def footing() -> dict[str, int]:
    """Threads and open files of this process and how many processes it has started that still live."""
    process = psutil.Process()
    return {
        "threads": process.num_threads(),
        "python_threads": threading.active_count(),
        "descriptors": _descriptors(process),
        "children": len(process.children(recursive=True)),
    }


def reading() -> dict[str, float]:
    """MB of this process and all that it started, and in use on the first GPU.

    ``rss_mb`` is resident; ``own_mb`` of it is what no file stands behind, where Linux tells. ``uss_mb`` is theirs
    alone, and falls when another process maps the same model file. A process that ends while it is read is left out.
    """
    process = psutil.Process()
    found = {"rss_mb": 0.0, "uss_mb": 0.0}
    for each in (process, *process.children(recursive=True)):
        try:
            sizes = each.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        found["rss_mb"] += sizes.rss / _MB
        found["uss_mb"] += sizes.uss / _MB
        if (shared := getattr(sizes, "shared", None)) is not None:
            found["own_mb"] = found.get("own_mb", 0.0) + (sizes.rss - shared) / _MB
    if (gpu := memory().get("gpu_mb")) is not None:
        found["gpu_mb"] = gpu
    return {name: round(value, 3) for name, value in found.items()}


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def held() -> dict[str, float]:
    """What this process holds, and not what its allocators keep for later: that one of both grows tells a leak.

    ``malloc_mb`` is what glibc's malloc was asked for and not given back, where there is glibc 2.33; ``python_blocks``
    counts the pieces that Python's own allocator has handed out.
    """
    found: dict[str, float] = {"python_blocks": sys.getallocatedblocks()}
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo is not None:
        mallinfo.restype = _MallInfo
        info = mallinfo()
        found["malloc_mb"] = round((info.uordblks + info.hblkhd) / _MB, 3)
    return found


class Sampler:
    """Reads memory every few seconds between ``start`` and ``stop``.

    Args:
        seconds: between two readings.
        more: gives further figures of the moment, by name.

    Attributes:
        samples: readings in order, each with the ``seconds`` since the start.
    """

    def __init__(self, seconds: float, more: Callable[[], dict[str, float]]) -> None:
        self.samples: list[dict[str, float]] = []
        self._seconds, self._more = seconds, more
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-sampler", daemon=True)

    def start(self) -> None:
        self._begun = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            at = round(time.monotonic() - self._begun, 2)
            self.samples.append({"seconds": at, **reading(), **held(), **self._more()})
            self._over.wait(self._seconds)


def growth(samples: Sequence[dict[str, float]], name: str, warm_up: float) -> dict[str, Any]:
    """How a figure grows after the warm-up, in percent of its mean per hour.

    The line is fitted by least squares to the means of equal spans of time, and its standard error is theirs. Theil and
    Sen's slope, the median over all pairs of readings, hardly moves for a single step; where the two differ by more
    than the error, it was a step and no leak.

    Args:
        samples: readings with ``seconds``.
        name: the figure.
        warm_up: seconds at the beginning that are left out.
    """
    kept = [sample for sample in samples if sample["seconds"] >= warm_up and name in sample]
    if len(kept) < 2 * _SPANS:
        return {"samples": len(kept), "too_few": True}
    hours = np.array([sample["seconds"] for sample in kept]) / 3600
    values = np.array([sample[name] for sample in kept])
    mean = float(values.mean())
    slope, error = _line(*_means(hours, values))
    first, last = np.array_split(values, 4)[0], np.array_split(values, 4)[-1]
    return {
        "samples": len(kept),
        "minutes": round(float(hours[-1] - hours[0]) * 60, 2),
        "mean": round(mean, 2),
        "percent_per_hour": round(100 * slope / mean, 3),
        "standard_error": round(100 * error / mean, 3),
        "theil_sen_percent_per_hour": round(100 * theil_sen(hours, values) / mean, 3),
        "median_of_first_quarter": round(statistics.median(first.tolist()), 2),
        "median_of_last_quarter": round(statistics.median(last.tolist()), 2),
        "least": round(float(values.min()), 2),
        "most": round(float(values.max()), 2),
    }


def theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """The median of the slopes between all pairs of points."""
    one, other = np.triu_indices(len(x), k=1)
    return float(np.median((y[other] - y[one]) / (x[other] - x[one])))


def _means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spans = np.array_split(np.arange(len(x)), _SPANS)
    return np.array([x[span].mean() for span in spans]), np.array([y[span].mean() for span in spans])


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the line through the points, with its standard error."""
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return float(slope), float(np.sqrt(covariance[0, 0]))
