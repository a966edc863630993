"""The probability of an answer by brute force: llama.cpp driven by hand, one label at a time, from scratch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROMPT = b"<|im_start|>user\n%s\nWhat is this?<|im_end|>\n<|im_start|>assistant\n"


class BruteForce:
    """A context and an encoder of its own; shares no code with the library."""

    def __init__(self, model: Path, projector: Path) -> None:
        import llama_cpp
        from llama_cpp import mtmd_cpp

        self.llama, self.mtmd = llama_cpp, mtmd_cpp
        self.model = llama_cpp.llama_model_load_from_file(str(model).encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0  # off, f32, f32: as in the preset
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.ends = [t for t in range(self.size) if llama_cpp.llama_vocab_is_eog(self.vocabulary, t)]
        options = mtmd_cpp.mtmd_context_params_default()
        options.use_gpu = options.print_timings = options.warmup = False
        options.n_threads, options.flash_attn_type = 1, 0
        self.vision = mtmd_cpp.mtmd_init_from_file(str(projector).encode(), self.model, options)

    def close(self) -> None:
        self.mtmd.mtmd_free(self.vision)
        self.llama.llama_free(self.context)
        self.llama.llama_model_free(self.model)

    def tokens(self, text: str) -> list[int]:
        data, room = text.encode(), (ctypes.c_int32 * 512)()
        count = self.llama.llama_tokenize(self.vocabulary, data, len(data), room, 512, False, False)
        return list(room[:count])

    def _next(self) -> np.ndarray:
        """Probabilities of the next token."""
        logits = np.ctypeslib.as_array(self.llama.llama_get_logits(self.context), shape=(self.size,))
        weights = np.exp(logits.astype(np.float64) - logits.max())
        return weights / weights.sum()

    def _read_prompt(self, image: Image.Image) -> int:
        """Evaluate the prompt with the image in an empty context; the next position."""
        mtmd = self.mtmd
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)
        pixels = (ctypes.c_uint8 * (image.width * image.height * 3)).from_buffer_copy(image.convert("RGB").tobytes())
        bitmap = mtmd.mtmd_bitmap_init(image.width, image.height, pixels)
        text = PROMPT % mtmd.mtmd_default_marker()
        chunks = mtmd.mtmd_input_chunks_init()
        asked = mtmd.mtmd_input_text(text, len(text), True, True)
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        assert mtmd.mtmd_tokenize(self.vision, chunks, ctypes.byref(asked), bitmaps, 1) == 0
        reached = ctypes.c_int32()
        code = mtmd.mtmd_helper_eval_chunks(self.vision, self.context, chunks, 0, 0, 512, True, ctypes.byref(reached))
        assert code == 0
        mtmd.mtmd_input_chunks_free(chunks)
        mtmd.mtmd_bitmap_free(bitmap)
        return reached.value

    def _read_token(self, token: int) -> None:
        one = (ctypes.c_int32 * 1)(token)
        assert self.llama.llama_decode(self.context, self.llama.llama_batch_get_one(one, 1)) == 0

    def label(self, image: Image.Image, label: str, label_set: list[str]) -> float:
        """Probability that the answer is this label and no other one of the set."""
        tokens, others = self.tokens(label), [self.tokens(other) for other in label_set if other != label]
        self._read_prompt(image)
        result = 1.0
        for token in tokens:
            result *= float(self._next()[token])
            self._read_token(token)
        if any(other[: len(tokens)] == tokens for other in others):
            result *= float(self._next()[self.ends].sum())
        return result

    def name(self, image: Image.Image, most: int) -> tuple[bytes, float]:
        """The likeliest next token again and again; the text and its probability."""
        self._read_prompt(image)
        text, result = b"", 1.0
        for step in range(most + 1):
            chances = self._next()
            token = int(chances.argmax())
            if token in self.ends:
                return text, result * float(chances[token])
            if step == most:
                break
            result *= float(chances[token])
            room = ctypes.create_string_buffer(256)
            length = self.llama.llama_token_to_piece(self.vocabulary, token, room, 256, 0, False)
            text += room.raw[:length]
            self._read_token(token)
        return text, result


@pytest.fixture(scope="session")
def brute_force(shared: Any) -> Iterator[BruteForce]:
    from fastinfer.models import resolve_gguf

    files = resolve_gguf("embedded")
    driver = BruteForce(files.model, files.projector)
    yield driver
    driver.close()


@pytest.fixture(scope="session")
def native(draw: Callable[..., Image.Image]) -> list[Image.Image]:
    """Six pictures of the size that the model sees, so that nothing is resized on the way."""
    from fastinfer.models import check_gguf, resolve_gguf

    side = check_gguf(resolve_gguf("embedded").projector).metadata["clip.vision.image_size"]
    kinds = [("circle", "red"), ("square", "red"), ("triangle", "blue"), ("circle", "green"), ("line", "black")]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return [draw(shape, colour, "white", side) for shape, colour in kinds] + [Image.fromarray(noise)]
