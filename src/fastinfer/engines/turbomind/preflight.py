"""What is checked before a model is loaded, so that TurboMind is never given what it ends the process on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastinfer.engines.turbomind.gpus import BFLOAT16, OLDEST, Gpu, dotted
from fastinfer.engines.turbomind.pipeline import PIPELINE_ARCHITECTURES
from fastinfer.engines.turbomind.prompt import PLACES
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineUnavailableError, ModelLoadError, PresetError, PromptTooLongError
from fastinfer.models import CheckpointInfo
from fastinfer.models.checkpoint import read_config
from fastinfer.models.checkpoint_parts import first_architecture

__all__ = [
    "TEXT_HEAD_SIZES",
    "TEXT_MODELS",
    "check_architecture",
    "check_gpus",
    "check_image_tokens",
    "check_model",
    "vision_head_sizes",
]

#: Widths of attention heads that TurboMind 0.18 has kernels for.
TEXT_HEAD_SIZES: Final = (64, 128, 256)
_FORMATS: Final = ("awq", "compressed-tensors", "fp8", "gptq", "mxfp4")
#: Language models that TurboMind 0.18 has; the InternVL family, unlike the others, comes with any of several.
TEXT_MODELS: Final = frozenset(
    {
        "Glm4MoeLiteForCausalLM",
        "GptOssForCausalLM",
        "InternLM2ForCausalLM",
        "InternLM3ForCausalLM",
        "LlamaForCausalLM",
        "MixtralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
    }
)
_WITH_ANY_TEXT_MODEL: Final = frozenset(
    {"InternS1ForConditionalGeneration", "InternVLChatModel", "InternVLForConditionalGeneration"}
)
#: Classes that Transformers does not have itself.
_ONLY_REMOTE: Final = frozenset({"InternS1ForConditionalGeneration", "InternVLChatModel", *PIPELINE_ARCHITECTURES})
_ARCHITECTURES: Final = tuple(sorted((*PLACES, *PIPELINE_ARCHITECTURES)))
_WIDTH_STEP: Final = 8  # hidden sizes are read in vectors of so many numbers


def check_architecture(folder: Path) -> None:
    """Refuse a vision-language model that TurboMind does not run, whose parts nothing here can describe either.

    Args:
        folder: of the checkpoint.

    Raises:
        EngineUnavailableError: TurboMind has no such architecture.
        ModelLoadError: config.json is missing or damaged.
    """
    config = read_config(folder)
    architecture = first_architecture(config)
    if architecture is not None and architecture not in _ARCHITECTURES and config.part("vision_config") is not None:
        raise _not_run(folder.name, architecture)


def vision_head_sizes(architecture: str) -> tuple[int, ...]:
    """Widths of a vision encoder's attention heads that can run; LMDeploy 0.18 pads some of the Qwen families'."""
    if architecture.startswith("Qwen2"):
        return (64, 80)
    if architecture.startswith(("Qwen3", "InternS2")):
        return (64, 72)
    return (64, 128)


def check_model(info: CheckpointInfo, *, trust_remote_code: bool) -> None:
    """Refuse a model that TurboMind cannot run, or would end the process on.

    Args:
        info: the model.
        trust_remote_code: Python code that comes with the checkpoint may be run.

    Raises:
        EngineUnavailableError: TurboMind has no such architecture, number format or width.
        ModelLoadError: it is a model of text only, or needs code that may not be run.
    """
    name = info.folder.name
    if info.vision is None:
        raise ModelLoadError(
            f"{name} is a {info.architecture} without a vision encoder.",
            hint=f"Choose a vision-language model: one of {', '.join(_ARCHITECTURES)}.",
        )
    if info.architecture not in _ARCHITECTURES:
        raise _not_run(name, info.architecture)
    # Of a model that Transformers has itself, it takes its own class; of tokenizers and processors none that is meant
    # to be another one.
    needed = info.needs_remote_code and info.architecture in _ONLY_REMOTE
    if (needed or info.code_beside) and not trust_remote_code:
        where = f", named by {', '.join(info.code_beside)}" if info.code_beside else ""
        raise ModelLoadError(
            f"{name} comes with Python code of its own{where}, which is run only when asked for.",
            hint="Choose a version of it without code (InternVL's end in -hf), or pass trust_remote_code=True.",
        )
    if info.architecture in _WITH_ANY_TEXT_MODEL and info.text.architecture not in TEXT_MODELS:
        kind = f"is a {info.text.architecture}" if info.text.architecture else "has no class in config.json"
        raise EngineUnavailableError(
            f"The language model in {name} {kind}, which TurboMind does not run.",
            hint=f"Choose a model with one of: {', '.join(sorted(TEXT_MODELS))}.",
        )
    if info.quantisation is not None and info.quantisation not in _FORMATS:
        raise EngineUnavailableError(
            f"{name} is quantised as {info.quantisation!r}, which TurboMind does not read.",
            hint=f"It reads {', '.join(_FORMATS)} and weights in 16 bits.",
        )
    for part, size, known_sizes in (
        ("attention", info.text.head_dim, TEXT_HEAD_SIZES),
        ("vision attention", info.vision.head_dim, vision_head_sizes(info.architecture)),
    ):
        if size not in known_sizes:
            raise EngineUnavailableError(
                f"{name} has {part} heads {size} wide; TurboMind has kernels for {', '.join(map(str, known_sizes))}.",
                hint="Choose another model, or a GGUF file of it with a preset of llama.cpp.",
            )
    for part, width in (("hidden", info.text.hidden), ("vision hidden", info.vision.hidden)):
        if width % _WIDTH_STEP:
            raise EngineUnavailableError(
                f"{name} has a {part} size of {width}; TurboMind reads multiples of {_WIDTH_STEP}.",
                hint="Choose another model, or a GGUF file of it with a preset of llama.cpp.",
            )


def check_gpus(present: Sequence[Gpu], devices: Sequence[int], info: CheckpointInfo, tp: int) -> bool:
    """Refuse GPUs that are not there, too old, or too many for the model.

    Args:
        present: the GPUs of this machine.
        devices: numbers of those that are asked for.
        info: the model.
        tp: GPUs that each layer is split over.

    Returns:
        Whether all of them compute in bfloat16.

    Raises:
        PresetError: ``devices`` names a GPU that is not there, or the model cannot be split over ``tp``.
        EngineUnavailableError: a GPU is too old for TurboMind.
    """
    by_index = {gpu.index: gpu for gpu in present}
    missing = [device for device in devices if device not in by_index]
    if missing:
        there = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in present)
        raise PresetError(
            f"There is no GPU {missing[0]} here.", hint=f"There is {there}; CUDA_VISIBLE_DEVICES may hide others."
        )
    if (info.text.kv_heads % tp and tp % info.text.kv_heads) or info.text.heads % tp:
        raise PresetError(
            f"The {info.text.heads} attention heads of {info.folder.name} cannot be split over tp = {tp} GPUs.",
            hint="Choose a tp that divides the number of heads.",
        )
    for device in devices:
        gpu = by_index[device]
        if gpu.capability < OLDEST:
            raise EngineUnavailableError(
                f"GPU {device}, {gpu.name}, has compute capability {dotted(gpu.capability)}; TurboMind "
                f"needs {dotted(OLDEST)}.",
                hint="Use a GPU from Volta on, or a preset of llama.cpp.",
            )
    return all(by_index[device].capability >= BFLOAT16 for device in devices)


def check_image_tokens(info: CheckpointInfo, settings: EngineSettings, most_tokens: int) -> None:
    """Refuse a request limit that no image of full size fits, before the first one fails.

    Args:
        info: the model.
        settings: what TurboMind would get.
        most_tokens: the most tokens an image can take.

    Raises:
        PromptTooLongError: an image alone takes more than the limit.
    """
    if info.image_tokens is not None and info.image_tokens >= settings.request_limit:
        raise PromptTooLongError(
            f"An image takes {info.image_tokens} tokens with {info.folder.name}, and session_len is "
            f"{settings.request_limit}.",
            tokens=info.image_tokens,
            limit=settings.request_limit,
            hint=f"Raise session_len to {_rounded(most_tokens + 256)}; with images it is 512 or more.",
        )


def _not_run(name: str, architecture: str) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"{name} is a {architecture}, which TurboMind does not run, and no slower engine takes its place.",
        hint=f"Choose a model of one of: {', '.join(_ARCHITECTURES)}; or a GGUF file of it with the preset 'embedded'.",
    )


def _rounded(count: int) -> int:
    return -(-count // 64) * 64
