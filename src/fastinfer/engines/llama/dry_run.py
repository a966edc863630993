"""What llama.cpp would allocate for a model and its contexts, by its own account, from the file's header alone.

llama.cpp lays out its cache and reserves its graphs as if it ran, and allocates none of it. That happens in a process
of its own and on the CPU's backend alone: no GPU is touched, the result is the same on every machine, and a model on
which llama.cpp ends the process ends only that one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from fastinfer.child_process import calling
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.errors import EngineUnavailableError, FastInferError, ModelLoadError

__all__ = ["ContextSizes", "dry_run"]

_MIB: Final = 2**20
#: Lines of llama.cpp 0c1e57098 (llama-kv-cache.cpp, llama-memory-recurrent.cpp, llama-context.cpp).
_CACHE: Final = re.compile(r"^llama_(?:kv_cache|memory_recurrent)\w*: size =\s*([\d.]+) MiB \(\s*(\d+) cells")
_BUFFER: Final = re.compile(r"(output|compute) buffer size =\s*([\d.]+) MiB")
_LONGEST: Final = 120.0  # seconds; the largest vocabularies take some 2
_OTHER: Final = "Take another file; the model may be newer than the installed llama-cpp-python."
#: Cells beyond which nothing is tried: llama.cpp keeps account of each, in some 60 bytes that are really allocated.
_MOST_CELLS: Final = 2**24
_FUNCTION: Final = re.compile(r"^\w+: (?:error loading model: )?")
#: The folder before the place in llama.cpp's sources, which is of whoever built it.
_SOURCES: Final = re.compile(r"^\S*/(?=[\w.-]+:\d+: )")


@dataclass(frozen=True, slots=True)
class ContextSizes:
    """Bytes of one context.

    Attributes:
        cache: the KV cache, and the states of recurrent layers.
        compute: buffers of the largest computation, on one device together.
        outputs: rows that are read back, in memory of the host.
    """

    cache: int
    compute: int
    outputs: int


def dry_run(model: Path, contexts: Sequence[ContextShape]) -> tuple[ContextSizes, ...]:
    """What each of these contexts would take.

    Args:
        model: a GGUF file with a sound header, of its full length; what comes after the header is not read.
        contexts: the contexts, tried one after the other.

    Raises:
        ModelLoadError: this llama.cpp cannot load the model, or cannot make such a context of it.
        EngineUnavailableError: llama-cpp-python is missing or not supported, or no process can be started.
    """
    cells = max((context.n_ctx for context in contexts), default=0)
    if cells > _MOST_CELLS:
        raise ModelLoadError(
            f"A KV cache of {cells:,} tokens is too large to be tried; {_MOST_CELLS:,} are the most.",
            hint="Lower n_ctx.",
        )
    asked = json.dumps({"model": str(model), "contexts": [asdict(context) for context in contexts]})
    # No GPU, and no debugger where llama.cpp ends the process.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            calling(__name__, "main"),
            input=asked,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # llama.cpp repeats what a file says, whatever bytes that are
            env=environment,
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelLoadError(
            f"llama.cpp has not said within {_LONGEST:.0f} s what {model.name} takes.", hint="Check the file."
        ) from error
    except OSError as error:
        raise EngineUnavailableError(
            f"No process can be started to try what {model.name} takes: {error}.", hint="Free memory or processes."
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ModelLoadError(
            f"llama.cpp ended while it tried what {model.name} takes: {_SOURCES.sub('', said[0])}.",
            hint="This model or these sizes would end any process that loads them: choose others.",
        )
    answer = json.loads(lines[-1])
    if "error" in answer:
        kind = EngineUnavailableError if answer["unavailable"] else ModelLoadError
        raise kind(answer["error"], hint=answer["hint"])
    return tuple(ContextSizes(**sizes) for sizes in answer["sizes"])


class _Account(logging.Handler):
    """Adds up what llama.cpp says of its buffers, and keeps what it complains of first."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.complaint = ""
        self.clear()

    def clear(self) -> None:
        self.cache = self.compute = self.outputs = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if found := _CACHE.match(line):
            self.cache += float(found[1]) * _MIB
        elif found := _BUFFER.search(line):
            if found[1] == "compute":
                self.compute += float(found[2]) * _MIB
            else:
                self.outputs += float(found[2]) * _MIB
        elif record.levelno >= logging.ERROR:
            self.complaint = self.complaint or _FUNCTION.sub("", line)

    def sizes(self) -> ContextSizes:
        return ContextSizes(round(self.cache), round(self.compute), round(self.outputs))


def _try(model: Path, contexts: Sequence[Mapping[str, Any]], account: _Account) -> list[ContextSizes]:
    from fastinfer.engines.llama.chat.sampler import device_cut
    from fastinfer.engines.llama.context import LlamaContext
    from fastinfer.engines.llama.model import LlamaModel

    log = logging.getLogger("fastinfer.llama")
    log.addHandler(account)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    found = []
    with ExitStack() as undo:
        weightless = LlamaModel(model, weights=False)
        undo.callback(weightless.close)
        for asked in contexts:
            shape = ContextShape(**asked)
            rows = range(shape.n_outputs if shape.device_cut else 0)
            samplers = {sequence: device_cut(shape.device_cut) for sequence in rows}
            account.clear()
            LlamaContext(weightless, shape, n_threads=1, samplers=samplers).close()
            found.append(account.sizes())
    return found


def main() -> None:
    """Read what is asked from standard input, and write what llama.cpp says to standard output."""
    asked, account = json.load(sys.stdin), _Account()
    try:
        # Before numpy: a build with a C++ library of its own crashes while it loads a model otherwise.
        import fastinfer.engines.llama.binding  # noqa: F401

        found = _try(Path(asked["model"]), asked["contexts"], account)
        answer: dict[str, Any] = {"sizes": [asdict(sizes) for sizes in found]}
    except FastInferError as error:
        said = account.complaint
        answer = {
            "error": f"{error.message.rstrip('.')}: {said}." if said else error.message,
            # An error about the model refers to the log, which is of this process.
            "hint": _OTHER if isinstance(error, ModelLoadError) else error.hint,
            "unavailable": isinstance(error, EngineUnavailableError),
        }
    sys.stdout.write(json.dumps(answer) + "\n")
