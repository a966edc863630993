"""The image encoder that llama.cpp loads beside a model, by the header of its projector."""

from __future__ import annotations

from dataclasses import dataclass

from fastinfer.models import GgufHeader

__all__ = ["Encoder", "encoder_of"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder with room for a batch.

    Attributes:
        weights: bytes of its weights and its projector's.
        activations: bytes while a batch is encoded.
        detail: what it is, in a few words.
    """

    weights: int
    activations: int
    detail: str

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.weights + self.activations


def encoder_of(header: GgufHeader, *, images: int, flash_attn: bool) -> Encoder:
    """The encoder that a projector's file holds.

    Of a layer, live at once are queries, keys and values, the state before and after, and the inner state of the MLP,
    each in 32 bits for each patch; without flash attention also the scores of every pair of patches in every head.
    Where the header does not say how large an image is, 1,024 patches are assumed.

    Args:
        header: of the mmproj file.
        images: encoded together, at most.
        flash_attn: scores are not kept.
    """

    def number(key: str, otherwise: int) -> int:
        value = header.metadata.get(f"clip.vision.{key}")
        return value if isinstance(value, int) and value > 0 else otherwise

    side, patch = number("image_size", 0), number("patch_size", 14)
    patches = (side // patch) ** 2 if side else 1024
    hidden = number("embedding_length", 1024)
    inner, heads = number("feed_forward_length", 4 * hidden), number("attention.head_count", max(1, hidden // 64))
    widths = 5 * hidden + inner
    scores = 0 if flash_attn else heads * patches
    return Encoder(
        weights=sum(tensor.size or 0 for tensor in header.tensors),
        activations=4 * images * patches * (widths + scores),
        detail=f"weights and {images} image{'s' if images > 1 else ''} of {patches} patches",
    )
