"""How far the batched trie's probabilities are from brute force: every label alone, from scratch, token by token.

    python benchmarks/exactness.py

Brute force uses llama.cpp's own helper for the prompt and decodes one token at a time in a context of its own; it
shares no code with the library's scoring.
"""

from __future__ import annotations

import argparse
import ctypes
import random

import llama_cpp as llama
import numpy as np
from common import EVERYDAY, everyday_pictures, save
from llama_cpp import mtmd_cpp as mtmd
from PIL import Image

import fastinfer
from fastinfer.models import resolve_gguf

# llama.cpp's helper reports every step on the terminal unless it is told otherwise.
QUIET = llama.llama_log_callback(lambda *_: None)
for set_log in (llama.llama_log_set, mtmd.mtmd_log_set, mtmd.mtmd_helper_log_set):
    set_log(QUIET, ctypes.c_void_p(0))

LABELS = [
    *EVERYDAY[:14],
    *("red apple", "red circle", "red square", "red heart", "red star", "red"),
    *("blue circle", "blue square", "blue heart", "blue car", "light bulb", "light", "traffic light"),
    *("ice", "ice cream", "ice hockey", "hot dog", "hot pepper", "apple", "apple pie"),
    *("café", "Ωμέγα", "犬", "a long label of many tokens that nobody would draw", "0", "10"),
]
PROMPT = "<|im_start|>user\n<__media__>\nWhat is this?<|im_end|>\n<|im_start|>assistant\n"


class BruteForce:
    """The embedded model in a plain context, one sequence, one thing at a time."""

    def __init__(self) -> None:
        files = resolve_gguf("embedded")
        self._model = llama.llama_model_load_from_file(str(files.model).encode(), llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_threads, params.n_threads_batch = 512, 512, 2, 2
        # As exact as the weights allow: no flash attention, nothing rounded in the KV cache.
        params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
        self._context = llama.llama_init_from_model(self._model, params)
        self._vocabulary = llama.llama_model_get_vocab(self._model)
        self._size = llama.llama_vocab_n_tokens(self._vocabulary)
        self._ends = [t for t in range(self._size) if llama.llama_vocab_is_eog(self._vocabulary, t)]
        vision = mtmd.mtmd_context_params_default()
        vision.use_gpu, vision.n_threads, vision.print_timings = False, 2, False
        vision.flash_attn_type = 0
        self._vision = mtmd.mtmd_init_from_file(str(files.projector).encode(), self._model, vision)

    def tokens(self, text: str) -> list[int]:
        data = text.encode()
        out = (ctypes.c_int32 * 256)()
        count = llama.llama_tokenize(self._vocabulary, data, len(data), out, 256, False, False)
        return list(out[:count])

    def log_probability(self, pixels: np.ndarray, label: list[int], ends: bool) -> float:
        """Log-probability that the answer starts with the label, and ends there where ``ends``."""
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        position = self._prompt(pixels)
        total = 0.0
        for token in label:
            total += self._scores()[token]
            one = (ctypes.c_int32 * 1)(token)
            llama.llama_decode(self._context, llama.llama_batch_get_one(one, 1))
            position += 1
        if ends:
            scores = self._scores()
            total += float(np.logaddexp.reduce([scores[t] for t in self._ends]))
        return total

    def _prompt(self, pixels: np.ndarray) -> int:
        height, width, _ = pixels.shape
        bitmap = mtmd.mtmd_bitmap_init(width, height, pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
        chunks = mtmd.mtmd_input_chunks_init()
        text = mtmd.mtmd_input_text(PROMPT.encode(), len(PROMPT.encode()), True, True)
        code = mtmd.mtmd_tokenize(self._vision, chunks, ctypes.byref(text), (ctypes.c_void_p * 1)(bitmap), 1)
        assert code == 0, code
        reached = ctypes.c_int32(0)
        code = mtmd.mtmd_helper_eval_chunks(self._vision, self._context, chunks, 0, 0, 512, True, ctypes.byref(reached))
        assert code == 0, code
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
        return reached.value

    def _scores(self) -> np.ndarray:
        row = np.ctypeslib.as_array(llama.llama_get_logits_ith(self._context, -1), shape=(self._size,))
        row = row.astype(np.float64)
        return row - np.logaddexp.reduce(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50)
    count = parser.parse_args().images
    brute = BruteForce()
    tokens = [brute.tokens(label) for label in LABELS]
    ends = [any(o != t and o[: len(t)] == t for o in tokens) for t in tokens]
    pictures = [p.resize((112, 112), Image.Resampling.BICUBIC) for p in everyday_pictures(160)[:count]]
    truth, masses = [], []
    for picture in pictures:
        pixels = np.ascontiguousarray(np.asarray(picture))
        logs = np.array([brute.log_probability(pixels, t, e) for t, e in zip(tokens, ends, strict=True)])
        truth.append(np.exp(logs) / np.exp(logs).sum())
        masses.append(np.exp(logs).sum())

    shuffled = list(LABELS)
    random.Random(0).shuffle(shuffled)
    settings = {
        "default": (LABELS, {}),
        "labels shuffled": (shuffled, {}),
        "one image a batch, one worker": (LABELS, {"vision_max_batch_size": 1, "workers": 1}),
        "32 images a batch, one worker": (LABELS, {"vision_max_batch_size": 32, "workers": 1}),
    }
    worst, mass, total = {}, 0.0, 0.0
    for name, (labels, changes) in settings.items():
        with fastinfer.classifier(labels=labels, **changes) as classifier:
            results = list(classifier.classify_many(pictures))
        found = [[r.probabilities[label] for label in LABELS] for r in results]
        worst[name] = float(np.abs(np.array(found) - np.array(truth)).max())
        mass = max(mass, float(np.abs(np.array([r.label_mass for r in results]) - np.array(masses)).max()))
        total = max(total, max(abs(sum(r.probabilities.values()) - 1) for r in results))
    figures = {
        "images": len(pictures),
        "labels": len(LABELS),
        "labels_that_are_prefixes": sum(ends),
        "largest_difference_to_brute_force": worst,
        "largest_difference_of_label_mass": mass,
        "largest_distance_of_the_sum_from_1": total,
    }
    save("exactness", "python benchmarks/exactness.py", figures)


if __name__ == "__main__":
    main()
