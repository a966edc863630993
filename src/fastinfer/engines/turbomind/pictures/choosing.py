"""Which preparation a checkpoint needs, as its own files say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from fastinfer.engines.turbomind.pictures.internvl import InternVLPreparation
from fastinfer.engines.turbomind.pictures.prepared import Preparation
from fastinfer.engines.turbomind.pictures.qwen_vl import QwenVLPreparation
from fastinfer.errors import ModelLoadError
from fastinfer.models.config_fields import Fields

__all__ = ["Described", "DescribedVision", "preparation_for"]

_BICUBIC: Final = 3  # Pillow's number, which image processors write into their files
_RESCALE: Final = 1 / 255
_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP: Final = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

# Means and deviations, and the sizes below, stand for what a file leaves out, as in the processors' own classes.
_GOT_OCR: Final = {"image_mean": list(_CLIP[0]), "image_std": list(_CLIP[1]), "rescale_factor": _RESCALE}
_QWEN: Final = {**_GOT_OCR, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
_QWEN_PIXELS: Final = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}

_GOT_OCR_CLASSES: Final = frozenset({"GotOcr2ImageProcessor", "GotOcr2ImageProcessorFast"})
_QWEN_CLASSES: Final = frozenset(
    {"Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2_5_VLImageProcessor", "Qwen2_5_VLImageProcessorFast"}
)
_QWEN_ARCHITECTURES: Final = frozenset(
    {
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    }
)
# LMDeploy reads both with one class.
_INTERNVL_ARCHITECTURES: Final = frozenset({"InternVLForConditionalGeneration", "InternS1ForConditionalGeneration"})


class DescribedVision(Protocol):
    """What has to be known of a checkpoint's vision encoder; see :class:`fastinfer.models.VisionPart`."""

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""

    @property
    def merge(self) -> int:
        """Patches a side that merge into one token."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(width, height) in pixels of every image, or None where the encoder takes any size."""


class Described(Protocol):
    """What has to be known of a checkpoint; see :class:`fastinfer.models.CheckpointInfo`."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def architecture(self) -> str:
        """The model's class, as config.json names it."""

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json."""

    @property
    def processor(self) -> Mapping[str, Any]:
        """The image processor's settings; empty where the checkpoint has none."""

    @property
    def image_tokens(self) -> int | None:
        """Tokens of one tile, for models whose tiles are all of one size."""

    @property
    def vision(self) -> DescribedVision | None:
        """The vision encoder."""


def preparation_for(
    info: Described, *, dtype: str, max_tiles: int, min_pixels: int, max_pixels: int
) -> Preparation | None:
    """What makes the images for this checkpoint, or None where nothing here does what its own processor does.

    Args:
        info: the checkpoint.
        dtype: of the encoder's input: ``bfloat16`` or ``float16``.
        max_tiles: the most tiles that an InternVL image is cut into, at least 1; of no meaning to Qwen models.
        min_pixels: the fewest pixels a Qwen image is resized to; 0 is the model's own limit, or `max_pixels` where
            that is lower. Of no meaning to InternVL.
        max_pixels: the most; 0 is the model's own limit, or `min_pixels` where that is higher.

    Raises:
        ModelLoadError: the processor's settings are damaged, or are not made for the checkpoint's vision encoder.
        ValueError: a limit or `dtype` is out of its range.
    """
    if max_tiles < 1 or min_pixels < 0 or max_pixels < 0 or 0 < max_pixels < min_pixels:
        raise ValueError(
            f"max_tiles must be at least 1, min_pixels and max_pixels at least 0 and in order, not {max_tiles}, "
            f"{min_pixels} and {max_pixels}"
        )
    if info.vision is None:
        return None
    settings = Fields(info.processor, info.folder / "preprocessor_config.json")
    if info.architecture in _INTERNVL_ARCHITECTURES:
        return _internvl(info, info.vision, settings, dtype, max_tiles)
    if info.architecture == "InternVLChatModel":
        return _internvl_original(info, info.vision, dtype, max_tiles)
    if info.architecture in _QWEN_ARCHITECTURES:
        return _qwen(info.vision, settings, dtype, min_pixels, max_pixels)
    return None


def _internvl(
    info: Described, vision: DescribedVision, given: Fields, dtype: str, max_tiles: int
) -> InternVLPreparation | None:
    size = given.part("size") if isinstance(given.values.get("size"), dict) else None
    if not _does_the_usual(given, _GOT_OCR_CLASSES) or size is None or not {"height", "width"} <= size.values.keys():
        return None
    side = (size.count("width"), size.count("height"))
    if side != vision.image_size:
        raise given.wrong("size", f"the vision encoder's, {vision.image_size}")
    settings = given.or_else({**_GOT_OCR, "min_patches": 1})
    return InternVLPreparation(
        side=_even(side, given),
        tokens_per_tile=_tokens_per_tile(info),
        mean=_three(settings, "image_mean"),
        std=_three(settings, "image_std", above=0),
        rescale=_number(settings, "rescale_factor", above=0),
        dtype=dtype,
        max_tiles=max_tiles,
        min_tiles=min(settings.count("min_patches"), max_tiles),
        thumbnail=True,
    )


def _internvl_original(
    info: Described, vision: DescribedVision, dtype: str, max_tiles: int
) -> InternVLPreparation | None:
    """The processing that comes with the model's own code. The first models, of one fixed size, had another one."""
    config = Fields(info.config, info.folder / "config.json").or_else({"min_dynamic_patch": 1})
    if vision.image_size is None or (info.processor and not config.truth("dynamic_image_size")):
        return None
    return InternVLPreparation(
        side=_even(vision.image_size, config),
        tokens_per_tile=_tokens_per_tile(info),
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        rescale=_RESCALE,
        dtype=dtype,
        max_tiles=max_tiles,
        min_tiles=min(config.count("min_dynamic_patch"), max_tiles),
        thumbnail=config.truth("use_thumbnail"),
    )


def _qwen(
    vision: DescribedVision, given: Fields, dtype: str, min_pixels: int, max_pixels: int
) -> QwenVLPreparation | None:
    if not _does_the_usual(given, _QWEN_CLASSES):
        return None
    settings = given.or_else(_QWEN)
    patch, merge = settings.count("patch_size"), settings.count("merge_size")
    if patch != vision.patch or patch % 2:
        raise settings.wrong("patch_size", f"even, and the vision encoder's, {vision.patch}")
    if merge != vision.merge:
        raise settings.wrong("merge_size", f"the vision encoder's, {vision.merge}")
    fewest, most = _pixel_limits(settings)
    fewest = min_pixels or (min(fewest, max_pixels) if max_pixels else fewest)
    return QwenVLPreparation(
        patch=patch,
        merge=merge,
        temporal=settings.count("temporal_patch_size"),
        mean=_three(settings, "image_mean"),
        std=_three(settings, "image_std", above=0),
        rescale=_number(settings, "rescale_factor", above=0),
        min_pixels=fewest,
        max_pixels=max_pixels or max(most, fewest),
        dtype=dtype,
    )


def _pixel_limits(settings: Fields) -> tuple[int, int]:
    """The model's own limits: by their old names, at the top or within ``size``, or by their new ones in ``size``."""
    size = settings.part("size") or Fields({}, settings.file, "size.")
    limits = []
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        places = ((settings, old), (size, new), (size, old))
        found = next((place for place in places if place[0].values.get(place[1]) is not None), None)
        limits.append(_QWEN_PIXELS[new] if found is None else found[0].count(found[1]))
    fewest, most = limits
    if fewest > most:
        raise settings.wrong("size", "limits in order, the fewest pixels first")
    return fewest, most


def _does_the_usual(settings: Fields, classes: frozenset[str]) -> bool:
    """Whether the processor is one of these, and neither leaves out a step nor resizes with another filter."""
    name = settings.text("image_processor_type")
    steps = ("do_resize", "do_rescale", "do_normalize")
    return (
        bool(settings.values)
        and (name is None or name in classes)
        and settings.values.get("resample") in (None, _BICUBIC)
        and all(settings.or_else({step: True}).truth(step) for step in steps)
    )


def _tokens_per_tile(info: Described) -> int:
    if info.image_tokens is None:
        raise ModelLoadError(
            f"{info.folder}: config.json does not say how many tokens an image takes.",
            hint="Fetch or copy the file again, or name a model that is complete.",
        )
    return info.image_tokens


def _even(side: tuple[int, int], file: Fields) -> tuple[int, int]:
    """A tile's (width, height); patches merge in pairs, so no encoder has odd ones."""
    if side[0] % 2 or side[1] % 2:
        raise ModelLoadError(
            f"{file.file}: images of {side[0]}x{side[1]} pixels; both sides have to be even.",
            hint="Fetch or copy the file again, or name a model that is complete.",
        )
    return side


def _three(settings: Fields, name: str, *, above: float = float("-inf")) -> tuple[float, float, float]:
    """A number for each channel; one number stands for all three."""
    value = settings.values.get(name)
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise settings.wrong(name, "three numbers")
    red, green, blue = (
        _number(Fields({name: each}, settings.file, settings.within), name, above=above) for each in values
    )
    return red, green, blue


def _number(settings: Fields, name: str, *, above: float) -> float:
    value = settings.values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < float("inf"):
        raise settings.wrong(name, "a number" if above < 0 else f"a number above {above}")
    return float(value)
