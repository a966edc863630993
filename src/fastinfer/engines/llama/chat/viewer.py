"""The evaluation of images in prompts: encode, then llama_decode with embeddings in place of tokens.

Token and embedding rows cannot share a decode, so images have one of their own in a step, before that of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from fastinfer.engines.llama.chat.batch import Filled, Part
from fastinfer.engines.llama.chat.config import LlamaChatConfig
from fastinfer.engines.llama.chat.pictures import Picture
from fastinfer.engines.llama.chat.request import Request
from fastinfer.engines.llama.context import LlamaContext
from fastinfer.engines.llama.devices import device_handle
from fastinfer.engines.llama.model import LlamaModel
from fastinfer.engines.llama.vision import ImageEncoder
from fastinfer.errors import FastInferError

__all__ = ["Viewer", "open_encoder"]


def open_encoder(config: LlamaChatConfig, model: LlamaModel, undo: ExitStack, *, on_gpu: bool) -> ImageEncoder | None:
    """The image encoder beside a model, on the same device; None where there is no projector. ``undo`` frees it.

    Raises:
        ModelLoadError: the file is no vision projector, or not one of this model.
    """
    if config.projector is None:
        return None
    encoder = ImageEncoder(
        config.projector,
        model,
        n_threads=config.n_threads,
        use_gpu=on_gpu,
        flash_attn=config.flash_attn,
        batch_tokens=min(config.n_ubatch, config.n_batch),
        device=device_handle(config.device),
    )
    undo.callback(encoder.close)
    return encoder


class Viewer:
    """Encodes and evaluates images of running requests. For the engine's thread only.

    Args:
        encoder: the image encoder.
        context: the language model's.
        most: most rows of a step.
    """

    def __init__(self, encoder: ImageEncoder, context: LlamaContext, most: int) -> None:
        self._encoder, self._context, self._most = encoder, context, most
        self._turn = 0
        #: A picture may be evaluated in pieces; else its tokens have to see each other.
        self.cuts = not encoder.looks_ahead

    def plan(self, waiting: Sequence[Request], rows: int) -> list[Part]:
        """What to evaluate next: pieces of pictures that come next in requests' prompts.

        Args:
            waiting: requests whose next cell is a picture's.
            rows: the rows to spend; 0 none. A picture that cannot be cut may take more.
        """
        parts: list[Part] = []
        left = min(rows, self._most)
        # In turns, so that a prompt of many images lets others get on.
        for request in sorted(waiting, key=lambda r: r.pictures.served if r.pictures else 0):
            pictures, done = request.pictures, request.done
            picture = pictures.at(done) if pictures is not None else None
            if pictures is None or picture is None or left <= 0:
                continue
            count = min(left, pictures.run_end(done) - done) if self.cuts else picture.end - done
            if self.cuts or count <= left or not parts:
                parts.append((request, count))
                left -= count
        return parts

    def encode(self, parts: Sequence[Part]) -> list[tuple[Request, FastInferError]]:
        """Have embeddings of all that the parts evaluate, each equal picture encoded once.

        Returns:
            the requests whose pictures cannot be encoded, and why.
        """
        try:
            self._encode(parts)
        except FastInferError:
            failed = []
            for part in parts:
                try:
                    self._encode([part])
                except FastInferError as error:
                    failed.append((part[0], error))
            return failed
        return []

    def _encode(self, parts: Sequence[Part]) -> None:
        wanted: dict[tuple[bytes, int], Picture] = {}
        for picture in _pictures(parts):
            if picture.embeddings is None:
                wanted.setdefault(picture.key, picture)
        if not wanted:
            return
        self._encoder.encode([picture.chunk for picture in wanted.values()])
        ready = {key: picture.chunk.embeddings for key, picture in wanted.items()}
        for picture in wanted.values():
            picture.chunk.embeddings = None
        # A picture that comes again further on is not encoded again.
        for picture in _pictures([(request, request.length) for request, _ in parts]):
            picture.embeddings = ready.get(picture.key, picture.embeddings)

    def decode(self, parts: Sequence[Part]) -> tuple[int, Filled]:
        """Evaluate encoded parts, all of them or none where it fails.

        Returns:
            llama_decode's code, and the batch.
        """
        rows = self._context.rows
        embeddings: list[npt.NDArray[np.float32]] = []
        positions: list[npt.NDArray[np.int32]] = []
        last = []
        at = 0
        for request, count in parts:
            start, end = request.done, request.done + count
            for picture in _pictures([(request, count)]):
                cut = slice(max(start, picture.start) - picture.start, min(end, picture.end) - picture.start)
                assert picture.embeddings is not None
                embeddings.append(picture.embeddings[cut])
                positions.append(self._encoder.positions(picture.chunk, picture.position)[..., cut])
            rows.sequences[at : at + count] = request.sequence
            rows.wanted[at : at + count] = 0
            at += count
            rows.wanted[at - 1] = end == request.length
            last.append((request, count, at - 1))
        code = self._context.decode(
            at,
            np.concatenate(embeddings),
            np.ascontiguousarray(np.concatenate(positions, axis=-1)),
            looks_ahead=not self.cuts,
        )
        if code == 0:
            self._context.wait()
            self._turn += 1
            for request, count in parts:
                assert request.pictures is not None
                request.pictures.served = self._turn
                for picture in _pictures([(request, count)]):
                    if picture.end <= request.done + count:
                        picture.embeddings = None
        return code, Filled(at, last, ())


def _pictures(parts: Sequence[Part]) -> list[Picture]:
    """The pictures that parts take cells of."""
    return [
        picture
        for request, count in parts
        if request.pictures is not None
        for picture in request.pictures.within(request.done, request.done + count)
    ]
