"""Images a second: classify_many beside the same model through llama-cpp-python's chat handler, in turn, same files.

    python benchmarks/speed.py

The peer gets the same PNG files, all cores, temperature 0, and generates the label one image at a time, which is what
its API offers. It runs in a child process, so that neither side's threads are in the other's way, and waits while the
other is measured. Two sizes of file: 256 px, as a user would have them, and 112 px, the model's own, where neither side
has anything to resize.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import time
from multiprocessing.connection import Connection

from common import EVERYDAY, as_png, everyday_pictures, interleave, save, spread

import fastinfer
from fastinfer.engines.cores import usable_cores


def peer(pipe: Connection, cores: int) -> None:
    """llama-cpp-python's chat handler for multimodal models, quiet: files in, seconds out, until there is no more."""
    from llama_cpp import Llama
    from llama_cpp.llama_chat_format import MTMDChatHandler

    from fastinfer.models import resolve_gguf

    files = resolve_gguf("embedded")
    handler = MTMDChatHandler(clip_model_path=str(files.projector), verbose=False, use_gpu=False)
    llama = Llama(
        str(files.model), chat_handler=handler, n_ctx=2048, n_threads=cores, n_threads_batch=cores, verbose=False
    )
    while (images := pipe.recv()) is not None:
        started = time.perf_counter()
        for image in images:
            url = "data:image/png;base64," + base64.b64encode(image).decode()
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
            llama.create_chat_completion([{"role": "user", "content": content}], max_tokens=12, temperature=0)
        pipe.send(time.perf_counter() - started)
    llama.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    pipe, other_end = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=peer, args=(other_end, usable_cores()))
    child.start()
    classifier = fastinfer.classifier(labels=EVERYDAY)
    few = EVERYDAY[:2]
    figures: dict[str, object] = {"rounds": rounds, "images_a_round": 2 * len(EVERYDAY)}
    for size in (256, 112):
        files = [as_png(p) for p in everyday_pictures(size)] * 2

        def ours(labels: list[str] | None, files: list[bytes] = files) -> float:
            started = time.perf_counter()
            for _ in classifier.classify_many(files, labels=labels):
                pass
            return len(files) / (time.perf_counter() - started)

        def open_set(files: list[bytes] = files) -> float:
            classifier.labels = None
            rate = ours(None, files)
            classifier.labels = EVERYDAY
            return rate

        def theirs(files: list[bytes] = files) -> float:
            pipe.send(files)
            return len(files) / float(pipe.recv())

        def one_by_one(files: list[bytes] = files) -> float:
            started = time.perf_counter()
            for file in files:
                classifier.classify(file)
            return len(files) / (time.perf_counter() - started)

        runs = {
            "ours_100_labels": lambda f=ours: f(EVERYDAY),
            "ours_2_labels": lambda f=ours: f(few),
            "ours_open_set": open_set,
            "ours_classify_in_a_loop": one_by_one,
            "llama_cpp_python_chat_handler": theirs,
        }
        interleave(runs, 1)
        rates = interleave(runs, rounds)
        theirs_rates = rates["llama_cpp_python_chat_handler"]
        figures[f"png_{size}px"] = {
            "images_per_second": {name: spread(values) for name, values in rates.items()},
            "times_the_chat_handler": {
                name: spread([a / b for a, b in zip(values, theirs_rates, strict=True)])
                for name, values in rates.items()
                if name != "llama_cpp_python_chat_handler"
            },
            "cost_of_100_labels_over_2": spread(
                [b / a for a, b in zip(rates["ours_100_labels"], rates["ours_2_labels"], strict=True)]
            ),
        }
    classifier.close()
    pipe.send(None)
    child.join()
    save("speed", "python benchmarks/speed.py", figures)


if __name__ == "__main__":
    main()
