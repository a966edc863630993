"""``doctor()``: reads each part of the machine, and puts the judgements together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from fastinfer.errors import FastInferError
from fastinfer.machine.checks import cpu, disk, gpu, hub, llama, memory, presets, python, turbomind
from fastinfer.machine.checks.check import Check
from fastinfer.machine.checks.requirements import distribution, requirement
from fastinfer.machine.diagnosis import Diagnosis

__all__ = ["doctor", "rows"]

_ROOT: Final = Path("/")
#: What a reading may raise by what it reads: the system's files and calls, what they hold, and our own refusals.
_EXPECTED: Final = (OSError, ValueError, FastInferError)


def doctor(*, network: bool = True) -> Diagnosis:
    """Look whether this machine is ready: a row for each check, with the command that mends what is wrong.

    Looked at are the engines' builds, GPUs and their driver, CPU, memory, disk, the Hugging Face hub, Python's packages
    and the user's presets. Nothing is changed, and no model is loaded. The engines are loaded into processes of their
    own, which have 30 seconds (TurboMind: 90, and only where there is an NVIDIA GPU); the hub has 5 seconds to answer.
    What cannot be looked at is a row with a warning; nothing that is found raises an error.

    Args:
        network: ask the hub; False leaves the network alone.
    """
    return Diagnosis(tuple(_diagnose(network)))


def _diagnose(network: bool) -> Iterator[Check]:
    with ThreadPoolExecutor(3) as pool:
        # These wait for other processes and for the network, so they do it side by side.
        asked_llama, asked_hub = pool.submit(llama.take), pool.submit(lambda: list(rows("hub", lambda: _hub(network))))
        gpus = gpu.take()
        llama_cpp = asked_llama.result()
        yield from rows("engines", lambda: _engines(llama_cpp, gpus))
        yield from rows("gpu", lambda: _gpu(gpus))
        yield from rows("cpu", lambda: cpu.judge(cpu.read(_ROOT)))
        yield from rows("memory", lambda: memory.judge(memory.read(_ROOT), gpus=len(gpus.visible)))
        yield from rows("disk", lambda: _disk(len(gpus.visible)))
        yield from asked_hub.result()
        yield from rows("python", lambda: python.judge(python.read()))
        yield from rows("presets", presets.check)


def rows(area: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The rows of an area, each on one line; where looking at it fails, those that are done and one with the reason.

    Args:
        area: its name.
        look: makes the rows.
    """
    try:
        for row in look():
            # Both may hold an error's text, of several lines.
            yield replace(row, found=" ".join(row.found.split()), meaning=" ".join(row.meaning.split()))
    except _EXPECTED as error:
        meaning = f"{type(error).__name__}: {' '.join(str(error).split())}."
        yield Check(area, "check", "warn", "could not be completed", meaning, "fastinfer doctor")


def _engines(llama_cpp: llama.LlamaReading, gpus: gpu.GpuReading) -> Iterator[Check]:
    yield from llama.judge(
        llama_cpp,
        gpus=gpus.visible,
        driver=gpus.driver,
        flags=cpu.read(_ROOT).flags,
        wanted=requirement("llama-cpp-python"),
        environment=os.environ,
    )
    lmdeploy = distribution("lmdeploy")
    yield from turbomind.judge(
        None if lmdeploy is None else lmdeploy.version,
        turbomind.take() if lmdeploy is not None and gpus.visible else None,
        gpus=gpus.visible,
        driver=gpus.driver,
        cuda=turbomind.built_for(),
        wanted=requirement("lmdeploy"),
    )


def _gpu(reading: gpu.GpuReading) -> Iterator[Check]:
    built_in, release = gpu.built_in_gpus(_ROOT), gpu.driver_release(_ROOT)
    return gpu.judge(reading, built_in=built_in, release=release, environment=os.environ)


def _disk(gpus: int) -> Iterator[Check]:
    from huggingface_hub import constants

    own = disk.own_cache()
    models = disk.read(Path(constants.HF_HUB_CACHE))
    return disk.judge(models, None if own is None else disk.read(own), gpus=gpus)


def _hub(network: bool) -> Iterator[Check]:
    return hub.judge(hub.read(network=network))
