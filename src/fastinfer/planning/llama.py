"""What llama.cpp takes, for chat and for classification.

Weights are counted in the header, contexts are tried by llama.cpp itself without allocating anything; what is left are
the figures below, measured with llama-cpp-python 0.3.36 (``benchmarks/memory``).
"""

from __future__ import annotations

from typing import Final

from fastinfer.engines.llama.dry_run import ContextSizes
from fastinfer.engines.llama.shape import ContextShape
from fastinfer.planning.need import MIB, Need, Part
from fastinfer.planning.vision import Encoder
from fastinfer.planning.weights import GgufSizes, Split

__all__ = ["cpu_need", "gpu_need"]

#: Bytes of a GPU that CUDA's context, cuBLAS and ggml's kernels take: 607 to 616 MiB on one H200, driver 580.
_CUDA: Final = 610 * MIB
#: More of the same where images are encoded, whose matrix products load further kernels and a workspace.
_CUDA_VISION: Final = 230 * MIB
#: Bytes of this process without a model: Python and the libraries; and for each token of a vocabulary.
_PROCESS: Final = 95 * MIB
_TOKEN: Final = 140
#: Bytes of the process where a CUDA driver is loaded, with a vocabulary of 155,136 tokens.
_PROCESS_CUDA: Final = 480 * MIB
#: Each quantised matrix product keeps its input in blocks of 32 weights with two numbers, 36 bytes (ggml's q8_1).
_Q8_1: Final = 36 / 32
#: Tensors of the CPU's layers that the GPU holds copies of while a long prompt is read there.
_COPIES: Final = 1.2


def gpu_need(
    shape: ContextShape,
    sizes: ContextSizes,
    model: GgufSizes,
    split: Split,
    encoder: Encoder | None,
    *,
    tokens: str,
) -> Need:
    """What a context with some or all layers on one GPU takes.

    Args:
        shape: the context.
        sizes: what llama.cpp says of it.
        model: the model's sizes.
        split: where its weights are.
        encoder: the vision encoder on the GPU, or None.
        tokens: how the cache is shared out, in words.
    """
    rows = min(shape.n_ubatch, shape.n_ctx)
    # The embedding of the tokens stays with its matrix on the CPU, and comes to the GPU once.
    embedded = 4 * model.hidden * rows
    stream = shape.n_ctx if shape.unified else shape.n_ctx // shape.n_sequences
    mask = 2 * stream * rows
    on_gpu = split.gpu_layers / model.layers
    activations = _Q8_1 * rows * model.widest if model.quantised else 4 * rows * model.widest
    # Without flash attention the scores of all heads are there at once, a second time in 16 bits for the product.
    attention = 0 if shape.flash_attn else 2 * stream * rows * model.heads
    cache = round(sizes.cache * on_gpu)
    compute = sizes.compute - embedded + round(_COPIES * split.largest_left)
    parts = [
        Part("weights", split.gpu, "gpu", f"{split.gpu_layers} of {model.layers} layers and the output"),
        Part("KV cache", cache, "gpu", f"{tokens}, {_types(shape)}"),
        Part("compute buffers", compute, "gpu", f"{rows} tokens at once, their logits included"),
    ]
    if encoder is not None:
        parts.append(Part("vision encoder", encoder.total, "gpu", encoder.detail))
    overhead = _CUDA + round(activations) + attention + (_CUDA_VISION if encoder else 0)
    return Need.of(
        [
            *parts,
            Part("overhead", overhead, "gpu", "CUDA's context and kernels, working space of matrix products"),
            Part("weights", split.host, "host", "token embeddings and layers that are not on the GPU, mapped"),
            Part("KV cache", sizes.cache - cache, "host", "layers that are not on the GPU"),
            Part("compute buffers", 2 * embedded + mask, "host", "inputs, pinned"),
            Part("logits", sizes.outputs, "host", "rows that are read back"),
            Part("overhead", _PROCESS_CUDA, "host", "the process with CUDA's libraries"),
        ]
    )


def cpu_need(
    shape: ContextShape,
    sizes: ContextSizes,
    model: GgufSizes,
    encoder: Encoder | None,
    *,
    tokens: str,
    contexts: int = 1,
    rows: int | None = None,
) -> Need:
    """What contexts on the CPU take.

    Args:
        shape: each context.
        sizes: what llama.cpp says of it.
        model: the model's sizes.
        encoder: the vision encoder of each context, or None.
        tokens: how the cache is shared out, in words.
        contexts: how many there are.
        rows: tokens that are ever computed at once, where that is known to be less than ``n_ubatch``: what is never
            written of a buffer takes no memory.
    """
    each = f"{contexts} times " if contexts > 1 else ""
    most = min(shape.n_ubatch, shape.n_ctx)
    used = most if rows is None else min(rows, most)
    written = used / most
    if rows is not None and not shape.flash_attn:
        written *= used / shape.n_ctx  # nearly all of it are the scores between rows and cells
    parts = [
        Part("weights", model.weights, "host", "mapped from the file"),
        Part("KV cache", contexts * sizes.cache, "host", f"{each}{tokens}, {_types(shape)}"),
        Part("compute buffers", round(contexts * sizes.compute * written), "host", f"{each}{used} tokens at once"),
        Part("logits", contexts * sizes.outputs, "host", f"{each}rows that are read"),
    ]
    if encoder is not None:
        parts.append(Part("vision encoder", contexts * encoder.total, "host", f"{each}{encoder.detail}"))
    process = _PROCESS + _TOKEN * model.vocabulary
    return Need.of([*parts, Part("overhead", process, "host", "the process with its libraries and the vocabulary")])


def _types(shape: ContextShape) -> str:
    return shape.type_k if shape.type_k == shape.type_v else f"{shape.type_k} and {shape.type_v}"
