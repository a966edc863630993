"""GGUF files of language models with a header and a hole in place of the weights, and headers without a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastinfer.models import GgufHeader, GgufTensor
from fastinfer.models.ggml_types import GGML_TYPES
from fastinfer.models.stand_ins import write_gguf

__all__ = ["HEADS", "HIDDEN", "INNER", "VOCABULARY", "header_of", "write_header"]

HIDDEN, INNER, VOCABULARY, HEAD, HEADS, KV_HEADS = 128, 64, 512, 32, 4, 2
Tensor = tuple[str, tuple[int, ...], str]


def header_of(layers: int, *, tied: bool = False) -> GgufHeader:
    """What the header of a file with these tensors says."""
    tensors, offset = [], 0
    for name, shape, kind in _tensors(layers, tied):
        size = shape[0] * (shape[1] if len(shape) > 1 else 1) * _bytes(kind)
        tensors.append(GgufTensor(name, shape, kind, offset, size))
        offset += size
    metadata = _metadata("llama", layers)
    return GgufHeader(Path("model.gguf"), offset, 3, "llama", "model", metadata, {}, tuple(tensors), 0)


def write_header(
    path: Path, architecture: str = "llama", *, layers: int = 2, changes: dict[str, int | float | str] | None = None
) -> Path:
    """A file of full length without weights.

    Args:
        path: the file.
        architecture: what it calls itself.
        layers: blocks.
        changes: metadata in place of what is right, by key without the architecture.
    """
    metadata = _metadata(architecture, layers)
    metadata |= {f"{architecture}.{key}": value for key, value in (changes or {}).items()}
    write_gguf(path, metadata, _tensors(layers, tied=False))
    return path


def _metadata(architecture: str, layers: int) -> dict[str, int | float | bool | str]:
    own = {
        "block_count": layers,
        "context_length": 4096,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": HEAD,
        "vocab_size": VOCABULARY,
    }
    return {
        "general.architecture": architecture,
        "tokenizer.ggml.model": "no_vocab",
        **{f"{architecture}.{key}": value for key, value in own.items()},
    }


def _tensors(layers: int, tied: bool) -> Iterator[Tensor]:
    """Name, shape and number format of a small Llama's tensors; tied ones have no output matrix of their own."""
    yield "token_embd.weight", (HIDDEN, VOCABULARY), "F16"
    yield "output_norm.weight", (HIDDEN,), "F32"
    if not tied:
        yield "output.weight", (HIDDEN, VOCABULARY), "F16"
    matrices = {
        "attn_q": (HIDDEN, HEADS * HEAD),
        "attn_k": (HIDDEN, KV_HEADS * HEAD),
        "attn_v": (HIDDEN, KV_HEADS * HEAD),
        "attn_output": (HEADS * HEAD, HIDDEN),
        "ffn_gate": (HIDDEN, INNER),
        "ffn_up": (HIDDEN, INNER),
        "ffn_down": (INNER, HIDDEN),
    }
    for layer in range(layers):
        for kind, shape in matrices.items():
            yield f"blk.{layer}.{kind}.weight", shape, "F16"
        for kind in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{kind}.weight", (HIDDEN,), "F32"


def _bytes(kind: str) -> int:
    return next(known.size for known in GGML_TYPES.values() if known.name == kind)
