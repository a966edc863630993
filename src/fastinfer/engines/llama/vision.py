"""The image encoder (mtmd): pixels and prompt in, chunks of tokens and embeddings out."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.binding import mtmd
from fastinfer.engines.llama.model import LlamaModel, RenderedPrompt
from fastinfer.errors import EngineError, ImageDecodeError, ModelLoadError, PromptTooLongError

__all__ = ["Chunk", "ImageEncoder", "Prepared"]

_TEXT_CHUNK = 0
_WHY = "The logger 'fastinfer.llama' says why."
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Chunk:
    """A piece of a prompt: text tokens, or an image with its embeddings once it is encoded.

    Attributes:
        tokens: (n,) int32 of a text chunk, else None.
        handle: mtmd's chunk.
        n_tokens: cells it takes in the KV cache.
        n_positions: positions it takes; fewer than ``n_tokens`` for models with multi-dimensional positions.
        embeddings: (n_tokens, width) float32 of an image chunk after encoding.
    """

    tokens: npt.NDArray[np.int32] | None
    handle: Any
    n_tokens: int
    n_positions: int
    embeddings: Floats | None = None


class Prepared:
    """One prompt with its image, cut into chunks; a context manager that frees mtmd's memory."""

    def __init__(self, handle: Any) -> None:
        self._free = weakref.finalize(self, mtmd.mtmd_input_chunks_free, handle)
        self._free.atexit = False
        count = mtmd.mtmd_input_chunks_size(handle)
        self.chunks = [_chunk(mtmd.mtmd_input_chunks_get(handle, i)) for i in range(count)]
        self.n_tokens = sum(c.n_tokens for c in self.chunks)

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free mtmd's memory. Idempotent; the garbage collector does it too."""
        self.chunks = []
        self._free()


def _chunk(handle: Any) -> Chunk:
    count, positions = int(mtmd.mtmd_input_chunk_get_n_tokens(handle)), int(mtmd.mtmd_input_chunk_get_n_pos(handle))
    if mtmd.mtmd_input_chunk_get_type(handle) != _TEXT_CHUNK:
        return Chunk(None, handle, count, positions)
    size = ctypes.c_size_t()
    pointer = mtmd.mtmd_input_chunk_get_tokens_text(handle, ctypes.byref(size))
    tokens = np.ctypeslib.as_array(pointer, shape=(size.value,)).astype(np.int32)
    return Chunk(tokens, handle, count, positions)


class ImageEncoder:
    """A vision encoder beside a language model. For one thread only.

    Args:
        path: the projector's GGUF file (mmproj).
        model: the language model it belongs to.
        n_threads: CPU threads.
        use_gpu: compute on the GPU where llama.cpp was built for one.
        flash_attn: use flash attention in the encoder.
        batch_tokens: most image tokens encoded at once, for encoders that take several images.
        device: ggml's handle of the GPU to use; None lets mtmd choose.

    Raises:
        ModelLoadError: the file is no vision projector, or not one of this model.
    """

    def __init__(
        self,
        path: Path,
        model: LlamaModel,
        *,
        n_threads: int,
        use_gpu: bool,
        flash_attn: bool,
        batch_tokens: int,
        device: int | None = None,
    ) -> None:
        params = mtmd.mtmd_context_params_default()
        params.use_gpu, params.n_threads = use_gpu, n_threads
        params.print_timings = params.warmup = False
        params.flash_attn_type = 1 if flash_attn else 0
        params.batch_max_tokens = batch_tokens
        if use_gpu:
            params.device = device
        self.handle: Any = mtmd.mtmd_init_from_file(str(path).encode(), model.handle, params)
        if not self.handle or not mtmd.mtmd_support_vision(self.handle):
            self.close()
            raise ModelLoadError(
                f"{path.name} is not a vision projector that llama.cpp can use with this model.",
                hint="Take the mmproj file of the same repository as the model.",
            )
        self._width = model.embedding_width
        #: The tokens of an image see each other, so they have to be evaluated at once.
        self.looks_ahead = bool(mtmd.mtmd_decode_use_non_causal(self.handle, None))
        self._in_grid = bool(mtmd.mtmd_decode_use_mrope(self.handle))
        #: Images go through llama.cpp's own helper where positions have several dimensions or attention looks ahead.
        self.needs_helper = self.looks_ahead or self._in_grid

    def check_at_once(self, tokens: int, at_once: int) -> None:
        """Refuse an image that llama.cpp would end the process on.

        Args:
            tokens: of the image.
            at_once: the most tokens that are evaluated at once, n_ubatch.

        Raises:
            PromptTooLongError: this model sees an image at once, and it has more tokens than that.
        """
        if self.looks_ahead and tokens > at_once:
            raise PromptTooLongError(
                f"The image takes {tokens} tokens, which this model has to see at once, and n_ubatch is less.",
                tokens=tokens,
                limit=at_once,
                hint=f"Raise n_ubatch and n_batch to {tokens} or more.",
            )

    def close(self) -> None:
        """Free the encoder. Idempotent."""
        if self.handle:
            mtmd.mtmd_free(self.handle)
        self.handle = None

    def prepare(self, prompt: RenderedPrompt, pixels: Pixels, *, begins: bool = True) -> Prepared:
        """Tokenise a prompt around an image and preprocess the image. Safe in any thread, beside the encoder's own.

        Args:
            prompt: the rendered chat prompt.
            pixels: (height, width, 3) uint8, contiguous RGB.
            begins: a text begins here: it gets BOS where the tokenizer adds one.

        Raises:
            ImageDecodeError: the encoder's preprocessing refuses the image.
        """
        height, width, _ = pixels.shape
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd.mtmd_bitmap_init(width, height, data)
        chunks = mtmd.mtmd_input_chunks_init()
        keep: list[Any] = []
        parts = (ctypes.POINTER(mtmd.mtmd_input_part) * len(prompt.parts))()
        for i, (text, special) in enumerate(prompt.parts):
            part = mtmd.mtmd_input_part()
            if text is None:
                part.bitmap = bitmap
            else:
                encoded = text.encode()
                piece = mtmd.mtmd_input_text(encoded, len(encoded), False, special)
                part.text = ctypes.pointer(piece)
                keep.append(piece)
            keep.append(part)
            parts[i] = ctypes.pointer(part)
        code = mtmd.mtmd_tokenize_from_parts(self.handle, chunks, parts, len(parts), begins)
        mtmd.mtmd_bitmap_free(bitmap)
        if code:
            mtmd.mtmd_input_chunks_free(chunks)
            raise ImageDecodeError(
                f"The model's preprocessing refuses an image of {width}x{height} pixels (code {code})."
            )
        return Prepared(chunks)

    def encode(self, chunks: Sequence[Chunk]) -> None:
        """Fill in the embeddings of image chunks, as many at a time as the encoder takes."""
        waiting = list(chunks)
        while waiting:
            waiting = waiting[self._encode_some(waiting) :]

    def _encode_some(self, chunks: Sequence[Chunk]) -> int:
        batch = mtmd.mtmd_batch_init(self.handle)
        try:
            taken = 0
            while taken < len(chunks) and mtmd.mtmd_batch_add_chunk(batch, chunks[taken].handle) == 0:
                taken += 1
            if taken > 1:
                if mtmd.mtmd_batch_encode(batch):
                    raise EngineError(f"llama.cpp could not encode {taken} images.", hint=_WHY)
                for chunk in chunks[:taken]:
                    chunk.embeddings = self._read(mtmd.mtmd_batch_get_output_embd(batch, chunk.handle), chunk)
                return taken
        finally:
            mtmd.mtmd_batch_free(batch)
        if mtmd.mtmd_encode_chunk(self.handle, chunks[0].handle):
            raise EngineError("llama.cpp could not encode an image.", hint=_WHY)
        chunks[0].embeddings = self._read(mtmd.mtmd_get_output_embd(self.handle), chunks[0])
        return 1

    def _read(self, pointer: Any, chunk: Chunk) -> Floats:
        embeddings: Floats = np.ctypeslib.as_array(pointer, shape=(chunk.n_tokens, self._width)).copy()
        return embeddings

    def positions(self, chunk: Chunk, first: int) -> npt.NDArray[np.int32]:
        """The positions of an image's tokens where its first is ``first``.

        Returns:
            (n_tokens,) int32; (4, n_tokens) for models with multi-dimensional positions: time, row, column, unused.
        """
        if not self._in_grid:
            return np.arange(first, first + chunk.n_tokens, dtype=np.int32)
        places = (mtmd.mtmd_decoder_pos * chunk.n_tokens)()
        mtmd.mtmd_helper_image_get_decoder_pos(mtmd.mtmd_input_chunk_get_tokens_image(chunk.handle), first, places)
        time, column, row, unused = np.frombuffer(places, np.int32).reshape(-1, 4).T
        return np.stack([time, row, column, unused])

    def decode_with_helper(self, context: Any, chunk: Chunk, position: int, sequence: int, n_batch: int) -> None:
        """Evaluate an encoded image through llama.cpp's helper, which knows each model's positions and mask.

        Raises:
            EngineError: the image could not be evaluated.
        """
        reached = ctypes.c_int32()
        embeddings = np.ascontiguousarray(chunk.embeddings)
        code = mtmd.mtmd_helper_decode_image_chunk(
            self.handle,
            context,
            chunk.handle,
            embeddings.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
            position,
            sequence,
            n_batch,
            ctypes.byref(reached),
            mtmd.mtmd_helper_post_decode_callback(0),
            None,
        )
        if code:
            raise EngineError(f"llama.cpp could not evaluate an image (code {code}).", hint=_WHY)
