"""What llama.cpp's classification engine gets for a preset; nothing is loaded for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastinfer.engines.cores import usable_cores
from fastinfer.errors import ModelLoadError
from fastinfer.models import GgufHeader
from fastinfer.preset_library import LlamaClassifyParameters
from fastinfer.provenance import Adjustment

if TYPE_CHECKING:
    from fastinfer.engines.llama.classify_config import LlamaClassifyConfig

__all__ = ["ImageInput", "engine_config", "is_small"]

#: Workers unless the preset says otherwise; beyond this, memory grows faster than speed.
_MOST_WORKERS = 8


def is_small(model: int, projector: int) -> bool:
    """Files of so many bytes are small enough that every CPU core may have an encoder and a KV cache of its own."""
    return model + projector < 64 * 2**20


def engine_config(
    parameters: LlamaClassifyParameters, model: Path, projector: Path, image: ImageInput, *, small: bool
) -> LlamaClassifyConfig:
    """What the engine gets for a preset.

    Args:
        parameters: the preset's.
        model, projector: the two GGUF files.
        image: what the projector takes.
        small: what :func:`is_small` says of the files.
    """
    from fastinfer.engines.llama.classify_config import LlamaClassifyConfig

    cores = parameters.n_threads or usable_cores()
    many = min(cores, _MOST_WORKERS) if small and not parameters.uses_gpu else 1
    return LlamaClassifyConfig(
        model=model,
        projector=projector,
        n_ctx=parameters.n_ctx,
        n_batch=parameters.n_batch,
        n_ubatch=parameters.n_ubatch,
        n_threads=cores,
        workers=parameters.workers or many,
        n_gpu_layers=parameters.n_gpu_layers,
        flash_attn=parameters.flash_attn,
        type_k=parameters.type_k,
        type_v=parameters.type_v,
        batch_images=parameters.vision_max_batch_size,
        image_size=image.size,
        image_tokens=image.tokens,
    )


class ImageInput:
    """What a projector's header says of its input.

    Attributes:
        size: (width, height) that images are resized to, or None for any size.
        tokens: tokens of such an image, or None where it varies.
    """

    @classmethod
    def read(cls, header: GgufHeader) -> ImageInput:
        """Read it off a projector's header.

        Raises:
            ModelLoadError: the header does not describe one.
        """
        try:
            return cls(header)
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ModelLoadError(
                f"The header of {header.path.name} does not describe a vision projector: {error!r}.",
                hint="Fetch the file again, or take the mmproj file of the same repository as the model.",
            ) from error

    def __init__(self, header: GgufHeader) -> None:
        data = header.metadata
        kind = data.get("clip.vision.projector_type", data.get("clip.projector_type"))
        self.size: tuple[int, int] | None = None
        self.tokens: int | None = None
        self._tiles = 1
        if kind == "internvl":
            side, patch = int(data["clip.vision.image_size"]), int(data["clip.vision.patch_size"])
            merge = int(data.get("clip.vision.projector.scale_factor", 2))
            self.size, self.tokens = (side, side), (side // patch // merge) ** 2
            self._tiles = int(data.get("clip.vision.preproc_max_tiles", 12))

    def adjustments(self) -> tuple[Adjustment, ...]:
        """What this library does with images otherwise than the projector's own preprocessing."""
        if self._tiles == 1 or self.size is None:
            return ()
        why = f"images are resized to {self.size[0]}x{self.size[1]}, one tile, so that each costs {self.tokens} tokens"
        return (Adjustment("image_tiles", self._tiles, 1, why),)
