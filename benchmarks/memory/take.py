"""One configuration in a process of its own: loads it, works with it, and prints what it took as one line of JSON."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: llama.cpp's own account, line by line.
_BUFFER = re.compile(r"(\S+)\s+(model|KV|RS|output|compute) buffer size\s*=\s*([\d.]+) MiB")
_MIB = 2**20


class Buffers(logging.Handler):
    """The buffers that llama.cpp reports, in MiB by device and kind."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.sizes: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if found := _BUFFER.search(record.getMessage()):
            device, kind, size = found.groups()
            key = f"{device} {kind}"
            # The compute buffer is reported again where it has grown, the others once for each part.
            before = 0.0 if kind == "compute" else self.sizes.get(key, 0.0)
            self.sizes[key] = round(before + float(size), 2)


class Watch:
    """Memory of the GPU and of this process, and the most of both since the start of the process."""

    def __init__(self, gpu: bool) -> None:
        self._handle: Any = None
        if gpu:
            import pynvml

            pynvml.nvmlInit()
            self._read, self._handle = pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlDeviceGetHandleByIndex(0)
            self.before = self.gpu()
        self.most = 0.0
        threading.Thread(target=self._poll, daemon=True).start()

    def gpu(self) -> float:
        """MiB that are taken of the GPU."""
        return self._read(self._handle).used / _MIB

    def _poll(self) -> None:
        while self._handle is not None:
            self.most = max(self.most, self.gpu())
            time.sleep(0.005)

    def now(self) -> dict[str, float]:
        taken = {key: round(value / 1024, 1) for key, value in _process().items()}
        if self._handle is not None:
            self.most = max(self.most, self.gpu())
            taken |= {"gpu": round(self.gpu() - self.before, 1), "gpu_most": round(self.most - self.before, 1)}
        return taken


def _process() -> dict[str, int]:
    """KiB of this process: all that is resident, what no file backs, and the most that ever was resident."""
    wanted = {"VmRSS": "resident", "RssAnon": "anonymous", "VmHWM": "most_resident"}
    with Path("/proc/self/status").open() as status:
        lines = (line.split() for line in status)
        return {wanted[parts[0][:-1]]: int(parts[1]) for parts in lines if parts[0][:-1] in wanted}


def chat(asked: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """A preset of kind chat: a prompt of ``words`` and 32 tokens in every slot at once."""
    import fastinfer
    from fastinfer.errors import PromptTooLongError

    steps = {"imported": watch.now()}
    with fastinfer.llm(asked["preset"], model=asked["model"], **asked["changes"]) as llm:
        steps["loaded"] = watch.now()
        slots = len(llm.slots())
        words = asked["words"]
        while True:
            prompts = [f"{slot} " + "the of and to in is that " * (words // 7) for slot in range(slots)]
            try:
                replies = list(llm.chat_many(prompts, max_tokens=32, ignore_eos=True))
                break
            except PromptTooLongError as error:
                words = int(words * 0.9 * (error.limit - 64) / error.tokens)
        steps["worked"] = watch.now()
        return {"steps": steps, "slots": slots, "prompt_tokens": replies[0].usage.prompt_tokens}


def classify(asked: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """A preset of kind classify: pictures of noise in several batches."""
    import fastinfer

    steps = {"imported": watch.now()}
    with fastinfer.classifier(
        asked["preset"], model=asked["model"], labels=["red", "green", "blue"], **asked["changes"]
    ) as classifier:
        steps["loaded"] = watch.now()
        tokens = [result.prompt_tokens for result in classifier.classify_many(_pictures(256))]
        steps["worked"] = watch.now()
        return {"steps": steps, "prompt_tokens": tokens[0]}


def _pictures(count: int) -> Iterator[bytes]:
    """JPEG files of noise, 448x448 pixels, made when they are asked for so that they take no memory themselves."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (448, 448, 3), np.uint8)).save(buffer, "JPEG")
        yield buffer.getvalue()


def main() -> None:
    asked = json.loads(sys.argv[1])
    if asked["engine"] == "llama.cpp":
        # Before numpy: a build with a C++ library of its own crashes loading a model otherwise.
        import llama_cpp  # noqa: F401
    buffers = Buffers()
    log = logging.getLogger("fastinfer.llama")
    log.addHandler(buffers)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    watch = Watch(asked["gpu"])
    taken = (chat if asked["kind"] == "chat" else classify)(asked, watch)
    print(json.dumps({**taken, "buffers": buffers.sizes}))


if __name__ == "__main__":
    main()
