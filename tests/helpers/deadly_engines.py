"""Real engines of the library that a certain image or prompt does harm to, to be opened in processes of their own."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import numpy as np

#: Colours of images that do harm: the process is aborted, ended, or hangs with or without the interpreter's lock.
ABORT, END, SLEEP, HOLD, RAISE = (250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250)


def _harm(pixels: np.ndarray) -> None:
    colour = tuple(int(value) for value in pixels[0, 0])
    if not (pixels == pixels[0, 0]).all():
        return
    if colour == ABORT:
        os.write(2, b"ggml_abort: something is wrong\n")
        os.abort()
    if colour == END:
        os._exit(7)
    if colour == SLEEP:
        time.sleep(1000)
    if colour == HOLD:
        ctypes.PyDLL(None).sleep(1000)  # a native function that keeps the interpreter's lock
    if colour == RAISE:
        raise RuntimeError("a bug in the engine")


def classifying(config: Any) -> Any:
    """A classification engine; see the colours above."""
    from fastinfer.engines.llama import classify

    original = classify._Worker.classify

    def harmful(self: Any, batch: list[Any], prompt: Any) -> None:
        for request in batch:
            _harm(request.pixels)
        original(self, batch, prompt)

    classify._Worker.classify = harmful  # type: ignore[method-assign]
    return classify.LlamaClassifyEngine(config)


def dying_at_load(*_: Any) -> Any:
    """An engine whose native code ends the process while it loads."""
    os.write(1, b"CUDA error: an illegal memory access was encountered\n")
    os.abort()


def hanging_at_load(*_: Any) -> Any:
    """An engine that is never open."""
    time.sleep(1000)


def dying_after_load(config: Any) -> Any:
    """An engine that ends the process whatever it is asked."""
    from fastinfer.engines.llama import classify

    classify._Worker.classify = lambda *_: os._exit(3)  # type: ignore[method-assign]
    return classify.LlamaClassifyEngine(config)


def chatting(config: Any) -> Any:
    """A chat engine that reading a prompt of exactly 13 tokens ends the process of, and one of 17 hangs."""
    from fastinfer.engines.llama.chat import loop
    from fastinfer.engines.llama.chat.engine import LlamaChatEngine

    original = loop.ChatLoop._evaluate

    def harmful(self: Any, parts: list[Any]) -> None:
        lengths = [request.prompt_length for request, _ in parts]
        if 13 in lengths:
            os.abort()
        if 17 in lengths:
            time.sleep(1000)
        original(self, parts)

    loop.ChatLoop._evaluate = harmful  # type: ignore[method-assign]
    return LlamaChatEngine(config)
