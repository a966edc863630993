"""Where llama.cpp puts the weights of a GGUF model, by the header alone."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastinfer.errors import ModelLoadError
from fastinfer.models import GgufHeader

__all__ = ["GgufSizes", "Split", "split_weights"]

_LAYER: Final = re.compile(r"blk\.(\d+)\.")
#: Tensors of the input layer, which llama.cpp keeps on the CPU however many layers the GPU gets.
_INPUT: Final = ("token_embd", "token_types", "position_embd", "per_layer_token_embd")


@dataclass(frozen=True, slots=True)
class GgufSizes:
    """What memory depends on.

    Attributes:
        architecture: as the file names it.
        layers: blocks of the model.
        hidden: width of its hidden states.
        widest: width of the widest matrix that reads or writes a hidden state.
        heads: attention heads.
        vocabulary: tokens.
        parameters: weights in all.
        weights: bytes that these take.
        quantised: whether its large matrices are.
    """

    architecture: str
    layers: int
    hidden: int
    widest: int
    heads: int
    vocabulary: int
    parameters: int
    weights: int
    quantised: bool

    @classmethod
    def read(cls, headers: Sequence[GgufHeader]) -> GgufSizes:
        """Read them off the headers of a model's files.

        Raises:
            ModelLoadError: the header lacks one of them.
        """
        first = headers[0]
        architecture = first.architecture or ""

        def number(key: str) -> int:
            value = first.metadata.get(f"{architecture}.{key}")
            if not isinstance(value, int) or value <= 0:
                raise ModelLoadError(
                    f"{first.path.name}: its header has no usable {architecture}.{key}.",
                    hint="Take a file that llama.cpp's own converter wrote.",
                )
            return value

        tensors = [tensor for header in headers for tensor in header.tensors]
        hidden = number("embedding_length")
        matrices = [tensor for tensor in tensors if len(tensor.shape) > 1]
        blocks = [tensor for tensor in matrices if _LAYER.match(tensor.name)]
        embedding = next((tensor for tensor in matrices if tensor.name == "token_embd.weight"), None)
        # A list of heads, one for each layer, is left out of the metadata that is read; the hidden state tells enough.
        heads = first.metadata.get(f"{architecture}.attention.head_count")
        return cls(
            architecture=architecture,
            layers=number("block_count"),
            hidden=hidden,
            widest=max((max(tensor.shape[:2]) for tensor in blocks), default=hidden),
            heads=heads if isinstance(heads, int) and heads > 0 else max(1, hidden // 128),
            vocabulary=embedding.shape[1] if embedding else first.array_lengths.get("tokenizer.ggml.tokens", 0),
            parameters=sum(math.prod(tensor.shape) for tensor in tensors),
            weights=sum(tensor.size or 0 for tensor in tensors),
            quantised=any(tensor.type not in ("F32", "F16", "BF16") for tensor in blocks),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Bytes of the weights on either side.

    Attributes:
        gpu: on the GPU.
        host: kept by the CPU, mapped from the file.
        gpu_layers: blocks whose weights, and whose share of the cache, are on the GPU.
        largest_left: of the tensors that stay on the CPU inside blocks, the largest: the GPU gets copies of such
            tensors while it reads long prompts.
    """

    gpu: int
    host: int
    gpu_layers: int
    largest_left: int


def split_weights(headers: Sequence[GgufHeader], sizes: GgufSizes, n_gpu_layers: int) -> Split:
    """Where the weights go.

    The last layers go to the GPU first, with the output counted as the last of all (llama_model::load_tensors). An
    output that is the input's matrix is there twice.

    Args:
        headers: of the model's files.
        sizes: what :meth:`GgufSizes.read` says of them.
        n_gpu_layers: layers on the GPU; -1 all.
    """
    layers = sizes.layers
    wanted = layers + 1 if n_gpu_layers < 0 else min(n_gpu_layers, layers + 1)
    first = layers + 1 - wanted
    gpu = host = largest = tied = 0
    has_output = False
    for header in headers:
        for tensor in header.tensors:
            size = tensor.size or 0
            block = _LAYER.match(tensor.name)
            if tensor.name == "token_embd.weight":
                tied = size
            has_output = has_output or tensor.name == "output.weight"
            if not tensor.name.startswith(_INPUT) and wanted and (block is None or int(block[1]) >= first):
                gpu += size
            else:
                host += size
                largest = max(largest, size if block else 0)
    if wanted and not has_output:
        gpu += tied
    return Split(gpu, host, max(0, wanted - 1), largest if wanted else 0)
