"""What a checkpoint in Hugging Face's form is, read from its configuration files and the headers of its weights.

Neither PyTorch nor Transformers is loaded, and no weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastinfer.errors import ModelLoadError
from fastinfer.models.checkpoint_parts import TextPart, VisionPart, first_architecture, image_use, text_part
from fastinfer.models.config_fields import Fields
from fastinfer.models.safetensors import TensorPlace, weights_of

__all__ = ["CheckpointInfo", "TextPart", "VisionPart", "describe_checkpoint", "read_config"]

_DTYPES: Final = ("bfloat16", "float16", "float32")
_PLAIN: Final = frozenset({"BF16", "F16", "F32"})
_HEADS: Final = ("lm_head.weight", "output.weight")
_EMBEDDINGS: Final = ("embed_tokens.weight", "tok_embeddings.weight")
_VISION: Final = frozenset({"vision_tower", "visual", "vision_model", "multi_modal_projector", "mlp1"})
_MAY_NAME_CODE: Final = (
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)
_DRAFT: Final = "mtp"  # layers that guess several tokens ahead, beside the model itself


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint is.

    Attributes:
        folder: where it lies.
        architecture: the first of config.json's ``architectures``, for example ``"InternVLForConditionalGeneration"``.
        text: its language model.
        vision: its image encoder, or None for a model of text only.
        dtype: the number format it was saved for: ``"bfloat16"``, ``"float16"``, ``"float32"``, or ``""`` where the
            file does not say.
        quantisation: how its weights are quantised, for example ``"awq"`` or ``"fp8"``; None where they are not.
        needs_remote_code: whether config.json names Python code of the checkpoint's own, for configuration or model.
        weight_bytes: length of all its weights in bytes.
        end_tokens: the tokens that end a reply; may be empty.
        tiles: the most tiles that its own processor cuts an image into, the thumbnail not counted; 1 where it cuts
            none.
        image_tokens: tokens of the prompt that one image (or one tile) takes; None where that depends on its size.
        processor: how its own processor prepares images: preprocessor_config.json, or the part ``image_processor`` of
            processor_config.json; empty where there is neither.
        config: config.json.
        head: the output matrix, of shape (vocabulary, hidden) in BF16, F16 or F32; None where it is quantised or has
            no name that is known here.
        vision_bytes: length in bytes of the weights of the image encoder and of what projects its output into the
            language model, by the tensors' names; part of ``weight_bytes``.
        code_beside: the other files that name Python code of its own, for its tokenizer or processor.
    """

    folder: Path
    architecture: str
    text: TextPart
    vision: VisionPart | None
    dtype: str
    quantisation: str | None
    needs_remote_code: bool
    weight_bytes: int
    end_tokens: tuple[int, ...]
    tiles: int
    image_tokens: int | None
    processor: Mapping[str, Any] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    head: TensorPlace | None
    vision_bytes: int = 0
    code_beside: tuple[str, ...] = ()


def read_config(folder: Path) -> Fields:
    """The folder's config.json.

    Raises:
        ModelLoadError: it is not there or not sound.
    """
    config = Fields.read(folder / "config.json")
    if config is None:
        raise ModelLoadError(
            f"{folder}: has no config.json, so it is no model in Hugging Face's form.",
            hint="Name a folder with config.json and .safetensors files; preset 'embedded' runs .gguf files.",
        )
    return config


def describe_checkpoint(folder: Path) -> CheckpointInfo:
    """Read what a checkpoint is from config.json and the files beside it, and check the headers of its weights.

    Args:
        folder: a folder with config.json and safetensors files.

    Raises:
        ModelLoadError: a file is missing or damaged, a field is missing or of the wrong type, fields or files
            contradict each other, or the model sees images in a way that is not known here; names file and field.
    """
    config = read_config(folder)
    architecture = first_architecture(config)
    if architecture is None:
        raise config.wrong("architectures", "a list with the model's class")
    inner = config.part("text_config") or config.part("llm_config") or config
    processor = _processor(folder)
    images = image_use(architecture, config, processor)
    # In old files of Qwen the language model's fields are those of the whole, which the class is then of.
    text = text_part(inner, None if inner is config and images is not None else first_architecture(inner))
    weights = weights_of(folder)
    tied = config.truth("tie_word_embeddings") or inner.truth("tie_word_embeddings")
    return CheckpointInfo(
        folder=folder,
        architecture=architecture,
        text=text,
        vision=None if images is None else images.vision,
        dtype=_dtype(inner) or _dtype(config),
        quantisation=_quantisation(config) or _quantisation(inner),
        needs_remote_code=bool(config.values.get("auto_map")),
        weight_bytes=sum(place.nbytes for place in weights.values()),
        end_tokens=_end_tokens(Fields.read(folder / "generation_config.json"), inner, config),
        tiles=1 if images is None else images.tiles,
        image_tokens=None if images is None else images.tile_tokens,
        processor=processor.values,
        config=config.values,
        head=_head(weights, text, tied),
        # Their names begin with the part's, or with "model." and the part's.
        vision_bytes=sum(place.nbytes for name, place in weights.items() if _VISION.intersection(name.split(".")[:2])),
        code_beside=tuple(name for name in _MAY_NAME_CODE if _names_code(Fields.read(folder / name))),
    )


def _names_code(file: Fields | None) -> bool:
    """Whether ``auto_map``, in which Transformers looks for classes of a repository's own, is there at any depth."""
    waiting: list[Any] = [] if file is None else [file.values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            if value.get("auto_map"):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _processor(folder: Path) -> Fields:
    """What the folder says of preparing images; empty where it says nothing. Transformers looks in this order."""
    nested = Fields.read(folder / "processor_config.json")
    own = None if nested is None else nested.part("image_processor")
    file = folder / "preprocessor_config.json"
    return own or Fields.read(file) or Fields({}, file)


def _dtype(config: Fields) -> str:
    for name in ("dtype", "torch_dtype"):
        value = config.text(name)
        if value is not None:
            value = value.removeprefix("torch.")
            if value not in _DTYPES:
                raise config.wrong(name, f"one of {', '.join(_DTYPES)}")
            return value
    return ""


def _quantisation(config: Fields) -> str | None:
    part = config.part("quantization_config")
    if part is None:
        return None
    method = part.text("quant_method")
    if not method:
        raise part.wrong("quant_method", "the name of a method")
    return method


def _end_tokens(*configs: Fields | None) -> tuple[int, ...]:
    """The tokens of the first of these that names any."""
    for config in configs:
        value = None if config is None else config.values.get("eos_token_id")
        if config is None or value is None:
            continue
        tokens = tuple(value) if isinstance(value, list) else (value,)
        if not all(type(token) is int and token >= 0 for token in tokens):
            raise config.wrong("eos_token_id", "a token's number or a list of them")
        return tokens
    return ()


def _head(weights: Mapping[str, TensorPlace], text: TextPart, tied: bool) -> TensorPlace | None:
    def named(endings: tuple[str, ...]) -> TensorPlace | None:
        # A name with a number in it is of one of many layers.
        return next(
            (
                weights[name]
                for name in sorted(weights)
                if f".{name}".endswith(tuple(f".{ending}" for ending in endings))
                and not any(word.isdecimal() or word == _DRAFT for word in name.split("."))
            ),
            None,
        )

    place = named(_HEADS) or (named(_EMBEDDINGS) if tied else None)
    if place is None or place.dtype not in _PLAIN:
        return None
    if place.shape != (text.vocabulary, text.hidden):
        raise ModelLoadError(
            f"{place.file}: tensor {place.name!r} has the shape {place.shape}, but by config.json the model has "
            f"{text.vocabulary} tokens and hidden states of {text.hidden}.",
            hint="The files are of different models: fetch or copy all of them again.",
        )
    return place
