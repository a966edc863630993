"""Greedy replies about images by llama.cpp used in the plainest way, to compare the chat engine's with.

One prompt with markers and all its images goes through mtmd's own tokenizer and helper into an empty context; then one
token follows the other. Nothing of the library is used but the binding.
"""

from __future__ import annotations

import ctypes

import numpy as np

__all__ = ["CLEAR", "MARKER", "PlainMtmd", "draw"]

#: Stands for an image in prompts.
MARKER = "<__media__>"
#: Where the lead of the best token's score over the next is less, either may come first.
CLEAR = 0.02


def draw(width, height, seed=0):
    """Coloured squares of 8 pixels, (height, width, 3) uint8."""
    random = np.random.default_rng((seed, width, height))
    squares = random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return np.ascontiguousarray(np.kron(squares, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8))


class PlainMtmd:
    """A model with its projector; close it."""

    def __init__(self, path):
        # The binding of the library sends llama.cpp's log away from the terminal.
        from fastinfer.engines.llama.binding import llama, mtmd

        self.llama, self.mtmd = llama, mtmd
        self.model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.size = llama.llama_vocab_n_tokens(self.vocab)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads, params.n_threads_batch = 2048, 512, 512, 1, 1
        params.flash_attn_type, params.type_k, params.type_v = 0, 0, 0
        self.context = llama.llama_init_from_model(self.model, params)
        vision = mtmd.mtmd_context_params_default()
        vision.use_gpu, vision.n_threads, vision.print_timings, vision.warmup = False, 1, False, False
        vision.flash_attn_type = 0
        projector = path.with_name(f"mmproj-{path.name}")
        self.encoder = mtmd.mtmd_init_from_file(str(projector).encode(), self.model, vision)
        assert self.model
        assert self.context
        assert self.encoder
        self.batch = llama.llama_batch_init(1, 0, 1)

    def close(self):
        self.llama.llama_batch_free(self.batch)
        self.mtmd.mtmd_free(self.encoder)
        self.llama.llama_free(self.context)
        self.llama.llama_model_free(self.model)

    def reply(self, prompt, images, max_tokens):
        """The greedy reply's bytes up to where it is no longer clear, cells of the prompt, and if it is all clear.

        Args:
            prompt: text with a :data:`MARKER` for each image, special tokens parsed.
            images: (height, width, 3) uint8 arrays.
            max_tokens: most tokens.
        """
        llama, mtmd = self.llama, self.mtmd
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)
        data = prompt.encode()
        text = mtmd.mtmd_input_text(data, len(data), True, True)
        bitmaps = [
            mtmd.mtmd_bitmap_init(i.shape[1], i.shape[0], i.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)))
            for i in images
        ]
        chunks = mtmd.mtmd_input_chunks_init()
        array = (ctypes.c_void_p * max(1, len(bitmaps)))(*bitmaps)
        assert mtmd.mtmd_tokenize(self.encoder, chunks, ctypes.byref(text), array, len(bitmaps)) == 0
        count = range(mtmd.mtmd_input_chunks_size(chunks))
        cells = sum(mtmd.mtmd_input_chunk_get_n_tokens(mtmd.mtmd_input_chunks_get(chunks, i)) for i in count)
        reached = ctypes.c_int32()
        assert mtmd.mtmd_helper_eval_chunks(self.encoder, self.context, chunks, 0, 0, 512, True, reached) == 0
        for bitmap in bitmaps:
            mtmd.mtmd_bitmap_free(bitmap)
        mtmd.mtmd_input_chunks_free(chunks)
        said = b""
        for step in range(max_tokens):
            scores = np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, -1), shape=(self.size,))
            second, first = np.sort(scores)[-2:]
            if first - second < CLEAR:
                return said, cells, False
            token = int(scores.argmax())
            if llama.llama_vocab_is_eog(self.vocab, token):
                break
            said += self._piece(token)
            self._evaluate(token, reached.value + step)
        return said, cells, True

    def _evaluate(self, token, position):
        batch = self.batch
        batch.n_tokens, batch.token[0], batch.pos[0] = 1, token, position
        batch.n_seq_id[0], batch.seq_id[0][0], batch.logits[0] = 1, 0, True
        assert self.llama.llama_decode(self.context, batch) == 0

    def _piece(self, token):
        buffer = ctypes.create_string_buffer(64)
        size = self.llama.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
        return buffer.raw[:size]
