"""The parts of a checkpoint, the language model and the image encoder, as config.json describes them.

Each class of models has names of its own for the fields of its image encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastinfer.errors import ModelLoadError
from fastinfer.models.config_defaults import TEXT_DEFAULTS, VISION_DEFAULTS
from fastinfer.models.config_fields import Fields

__all__ = ["ImageUse", "TextPart", "VisionPart", "first_architecture", "image_use", "text_part"]

_MAX_TILES: Final = 12  # of Transformers' GotOcr2ImageProcessor, where its file does not say


@dataclass(frozen=True, slots=True)
class TextPart:
    """The language model.

    Attributes:
        architecture: for example ``"Qwen2ForCausalLM"``; None where the file names none for this part.
        layers: how many it has.
        hidden: width of the hidden states.
        heads: attention heads of the queries.
        kv_heads: attention heads of keys and values; ``heads`` is a multiple of it.
        head_dim: width of a head.
        vocabulary: tokens that it scores.
        max_positions: the longest context, in tokens, that it is configured for.
        linear_layers: those of ``layers`` with linear attention: they keep a state instead of every token's keys and
            values.
        state_numbers: numbers of all these states of one sequence, however long it is.
    """

    architecture: str | None
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    max_positions: int
    linear_layers: int = 0
    state_numbers: int = 0


@dataclass(frozen=True, slots=True)
class VisionPart:
    """The image encoder.

    Attributes:
        layers: how many it has.
        hidden: width of the hidden states; a multiple of ``heads``.
        heads: attention heads.
        head_dim: width of a head.
        patch: width and height of an image patch in pixels.
        image_size: width and height in pixels of the images (or tiles of images) that it takes; None where it takes
            any size, as Qwen's do.
        merge: patches on each side of the square that becomes one token.
    """

    layers: int
    hidden: int
    heads: int
    head_dim: int
    patch: int
    image_size: tuple[int, int] | None
    merge: int


@dataclass(frozen=True, slots=True)
class ImageUse:
    """How a model takes images.

    Attributes:
        vision: its image encoder.
        tiles: the most tiles that its own processor cuts an image into, the thumbnail not counted; at least 1.
        tile_tokens: tokens of the prompt that a tile takes; None where that depends on the image's size.
    """

    vision: VisionPart
    tiles: int = 1
    tile_tokens: int | None = None


def first_architecture(config: Fields) -> str | None:
    """The first class that ``architectures`` names, or None where it names none.

    Raises:
        ModelLoadError: it is no list of names.
    """
    value = config.values.get("architectures")
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not isinstance(value[0], str):
        raise config.wrong("architectures", "a list of names")
    return value[0]


def text_part(config: Fields, architecture: str | None) -> TextPart:
    """The language model.

    Args:
        config: the object with its fields.
        architecture: its class, if the file names it.

    Raises:
        ModelLoadError: a field is missing or of the wrong type.
    """
    config = config.or_else(TEXT_DEFAULTS.get(config.text("model_type") or "", {}))
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    kv_heads = config.or_else({"num_key_value_heads": heads}).count("num_key_value_heads")
    if heads % kv_heads:
        raise config.wrong("num_key_value_heads", f"a divisor of num_attention_heads, {heads}")
    linear = _linear_layers(config)
    return TextPart(
        architecture=architecture,
        layers=config.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=config.or_else({"head_dim": hidden // heads}).count("head_dim"),
        vocabulary=config.count("vocab_size"),
        max_positions=config.count("max_position_embeddings"),
        linear_layers=linear,
        state_numbers=linear * _numbers_of_a_state(config) if linear else 0,
    )


def _linear_layers(config: Fields) -> int:
    layers, types = config.count("num_hidden_layers"), config.values.get("layer_types")
    if types is None:
        # Transformers' Qwen3_5TextConfig: the last of every so many layers has full attention.
        interval = config.values.get("full_attention_interval")
        return 0 if interval is None else layers - layers // config.count("full_attention_interval")
    if not isinstance(types, list) or len(types) != layers:
        raise config.wrong("layer_types", f"a list of {layers} names")
    return types.count("linear_attention")


def _numbers_of_a_state(config: Fields) -> int:
    """Of one layer: the gated delta rule's matrices, and the inputs that its convolution looks back at."""
    keys = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
    values = config.count("linear_num_value_heads") * config.count("linear_value_head_dim")
    matrices = values * config.count("linear_key_head_dim")
    return matrices + (2 * keys + values) * config.count("linear_conv_kernel_dim")


def image_use(architecture: str, config: Fields, processor: Fields) -> ImageUse | None:
    """How a model takes images, or None for a model of text only.

    Args:
        architecture: the model's class.
        config: config.json.
        processor: how its own processor prepares images; empty where it has none.

    Raises:
        ModelLoadError: a field is missing or of the wrong type, fields contradict each other, or the class has an
            image encoder that is not known here.
    """
    part = config.part("vision_config")
    if architecture in _READERS:
        return _READERS[architecture](config, part or Fields({}, config.file, "vision_config."), processor)
    if part is None:
        return None
    raise ModelLoadError(
        f"{config.file}: a model of the class {architecture}, whose image encoder is not known here.",
        hint=f"Classes that are: {', '.join(_READERS)}.",
    )


def _internvl(config: Fields, part: Fields, processor: Fields) -> ImageUse:
    vision = _internvl_encoder(config.or_else({"downsample_ratio": 0.5}), part.or_else(VISION_DEFAULTS["internvl"]))
    tokens = _tile_tokens(vision, part)
    told = config.or_else({"image_seq_length": 256})
    if told.count("image_seq_length") != tokens:
        raise told.wrong("image_seq_length", f"{tokens}, the tokens of an image of {vision.image_size} pixels")
    # Transformers' InternVLProcessor asks for tiles whatever the file says of crop_to_patches.
    tiles = processor.or_else({"max_patches": _MAX_TILES}).count("max_patches") if processor.values else 1
    return ImageUse(vision, tiles, tokens)


def _internvl_chat(config: Fields, part: Fields, processor: Fields) -> ImageUse:
    # The legacy class keeps what it does with images in config.json.
    vision = _internvl_encoder(config, part)
    forced = config.values.get("force_image_size")
    if forced is not None and (config.count("force_image_size"),) * 2 != vision.image_size:
        raise config.wrong("force_image_size", f"the encoder's image_size, {vision.image_size}")
    tiles = config.count("max_dynamic_patch") if config.truth("dynamic_image_size") else 1
    return ImageUse(vision, tiles, _tile_tokens(vision, part))


def _internvl_encoder(config: Fields, part: Fields) -> VisionPart:
    ratio = config.values.get("downsample_ratio")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 / 64 <= ratio <= 1:
        raise config.wrong("downsample_ratio", "a number above 0 and at most 1")
    patch = part.sides("patch_size")
    if patch[0] != patch[1]:
        raise part.wrong("patch_size", "a square")
    layers, heads = part.count("num_hidden_layers"), part.count("num_attention_heads")
    hidden = _divided(part, "hidden_size", heads)
    return VisionPart(
        layers, hidden, heads, hidden // heads, patch[0], part.sides("image_size"), merge=round(1 / ratio)
    )


def _tile_tokens(vision: VisionPart, part: Fields) -> int:
    """Tokens of one tile: its patches, each square of ``merge`` by ``merge`` of them together."""
    width, height = vision.image_size or (0, 0)
    side = vision.patch * vision.merge
    if width % side or height % side:
        raise part.wrong("image_size", f"a multiple of {side}: patch_size / downsample_ratio")
    return (width // side) * (height // side)


def _qwen2_vl(config: Fields, part: Fields, processor: Fields) -> ImageUse:
    # Here hidden_size is the language model's.
    return ImageUse(_qwen(part.or_else(VISION_DEFAULTS["qwen2_vl"]), "embed_dim"))


def _qwen2_5_vl(config: Fields, part: Fields, processor: Fields) -> ImageUse:
    return ImageUse(_qwen(part.or_else(VISION_DEFAULTS["qwen2_5_vl"]), "hidden_size"))


def _qwen3_5(config: Fields, part: Fields, processor: Fields) -> ImageUse:
    return ImageUse(_qwen(part.or_else(VISION_DEFAULTS["qwen3_5"]), "hidden_size"))


def _qwen(part: Fields, width: str) -> VisionPart:
    heads = part.count("num_heads")
    hidden = _divided(part, width, heads)
    merge = part.count("spatial_merge_size")
    return VisionPart(part.count("depth"), hidden, heads, hidden // heads, part.count("patch_size"), None, merge)


# LMDeploy reads the encoders of InternS1 and of Qwen3.5's mixtures of experts with the same code as the other ones.
_READERS: Final[Mapping[str, Callable[[Fields, Fields, Fields], ImageUse]]] = {
    "InternVLForConditionalGeneration": _internvl,
    "InternS1ForConditionalGeneration": _internvl,
    "InternVLChatModel": _internvl_chat,
    "Qwen2VLForConditionalGeneration": _qwen2_vl,
    "Qwen2_5_VLForConditionalGeneration": _qwen2_5_vl,
    "Qwen3_5ForConditionalGeneration": _qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": _qwen3_5,
    "InternS2PreviewForConditionalGeneration": _qwen3_5,
    "InternS2MobiusForConditionalGeneration": _qwen3_5,
}


def _divided(part: Fields, name: str, heads: int) -> int:
    hidden = part.count(name)
    if hidden % heads:
        raise part.wrong(name, f"a multiple of the number of heads, {heads}")
    return hidden
