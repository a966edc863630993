"""A model in ``lmdeploy.pipeline``: the one place that touches it.

Written against LMDeploy 0.18. What is used beside the documented ``infer`` and ``close`` is its preparation of images,
to hold them to the preset's limits, its chat template, and its event loop's hook at the interpreter's end.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL.Image import Image

from fastinfer.engines.turbomind.configs import engine_config, generation_config, vision_config
from fastinfer.engines.turbomind.importing import import_lmdeploy
from fastinfer.engines.turbomind.settings import EngineSettings
from fastinfer.errors import EngineUnavailableError, ModelLoadError
from fastinfer.models import CheckpointInfo

__all__ = ["ImageLimits", "LoadedPipeline", "load_pipeline"]

_TURBOMIND: Final = "turbomind"
#: A private-use character that stands for the user's text while the chat template is rendered.
_TEXT: Final = "\ue0f1"
#: Models that think before they answer are asked for the answer at once; other templates do not read it.
_TEMPLATE_OPTIONS: Final = {"enable_thinking": False}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How large an image may be to the model.

    Attributes:
        max_tiles: the most tiles that an image is cut into, at least 1; of no meaning to Qwen models.
        min_pixels: the fewest pixels an image is resized to; 0 is the model's own limit, or ``max_pixels`` where that
            is lower. Of no meaning to models that cut tiles.
        max_pixels: the most; 0 is the model's own limit, or ``min_pixels`` where that is higher.
    """

    max_tiles: int
    min_pixels: int
    max_pixels: int


class LoadedPipeline:
    """A model in ``lmdeploy.pipeline``. One thread at a time may call it.

    Args:
        pipe: the pipeline; closed with this.
        version: LMDeploy's.

    Attributes:
        backend: the engine that LMDeploy chose.
        tokenizer: Transformers' tokenizer of the model; LMDeploy's own threads use another one.
        version: LMDeploy's.
    """

    def __init__(self, pipe: Any, version: str) -> None:
        self._pipe = pipe
        self._image_options: dict[str, int] = {}
        self._call_options: dict[str, Any] = {"chat_template_kwargs": _TEMPLATE_OPTIONS}
        self.backend = str(pipe.async_engine.backend)
        self.tokenizer: Any = pipe.async_engine.chat_template.tokenizer
        self.version = version
        # At the interpreter's end it would stop the loop under a batch that runs; here it is stopped by close().
        atexit.unregister(pipe.internal_thread.close)

    @property
    def vocabulary(self) -> int:
        """Tokens of the model."""
        return int(self._pipe.async_engine.engine._vocab_size)

    def limit_images(self, limits: ImageLimits) -> None:
        """Hold images to these limits, in whichever way this model's preparation takes them."""
        processor = getattr(self._pipe.async_engine.vl_encoder.model.processor, "image_processor", None)
        if processor is None:  # a function of LMDeploy's, for the first InternVL models: it reads this with each image
            self._image_options["max_dynamic_patch"] = limits.max_tiles
            return
        if hasattr(processor, "max_patches"):
            processor.max_patches = limits.max_tiles
            processor.min_patches = min(processor.min_patches, limits.max_tiles)
        size = dict(processor.size or {})
        if (limits.min_pixels or limits.max_pixels) and {"shortest_edge", "longest_edge"} <= size.keys():
            own_fewest, own_most = int(size["shortest_edge"]), int(size["longest_edge"])
            fewest = limits.min_pixels or min(own_fewest, limits.max_pixels)
            pixels = {"min_pixels": fewest, "max_pixels": limits.max_pixels or max(own_most, fewest)}
            # For Qwen2-VL and Qwen2.5-VL they are read with each image, for later models with the call.
            self._image_options.update(pixels)
            self._call_options["mm_processor_kwargs"] = {"image": pixels}

    def prompt_end(self) -> str:
        """What the chat template writes between the user's text and the answer.

        Raises:
            ModelLoadError: it loses the text.
        """
        message = {"role": "user", "content": _TEXT}
        rendered = str(self._pipe.async_engine.chat_template.messages2prompt([message], **_TEMPLATE_OPTIONS))
        if rendered.count(_TEXT) != 1:
            raise ModelLoadError(
                f"{self._pipe.async_engine.model_name}: the model's chat template loses the text of a message.",
                hint="Choose a model whose chat template writes each message once and unchanged.",
            )
        return rendered.partition(_TEXT)[2]

    def infer(self, images: Sequence[Image], opening: str, prompt: str, most_tokens: int) -> list[Any]:
        """Ask the same of several images, and wait for all answers.

        Args:
            images: of mode RGB.
            opening: the text before each image; may be empty.
            prompt: the text after it.
            most_tokens: tokens to generate, the likeliest each time, also beyond the end of the answer.

        Returns:
            LMDeploy's ``Response`` for each image, in order: ``token_ids``, and ``logits``, a torch tensor (tokens,
            vocabulary) in 16 bits on the CPU; or an error as ``finish_reason``. None where LMDeploy gave none.
        """
        messages = [[{"role": "user", "content": self._content(image, opening, prompt)}] for image in images]
        generation = generation_config(max_new_tokens=most_tokens, read_logits=True)
        return list(self._pipe.infer(messages, gen_config=generation, **self._call_options))

    def close(self) -> None:
        """Free everything; no call may be running. Idempotent."""
        import torch

        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        pipe.close()
        del pipe
        # The weights hang in reference cycles of LMDeploy's loader, and torch keeps what it once allocated.
        gc.collect()
        torch.cuda.empty_cache()

    def _content(self, image: Image, opening: str, prompt: str) -> list[dict[str, Any]]:
        return [
            *([{"type": "text", "text": opening}] if opening else []),
            {"type": "image_data", "image_data": {"data": image, **self._image_options}},
            {"type": "text", "text": prompt},
        ]


def load_pipeline(info: CheckpointInfo, settings: EngineSettings, *, trust_remote_code: bool) -> LoadedPipeline:
    """Load a model into ``lmdeploy.pipeline``; it takes seconds and gigabytes.

    Args:
        info: the model.
        settings: what TurboMind gets.
        trust_remote_code: run Python code that comes with the checkpoint.

    Raises:
        EngineUnavailableError: TurboMind cannot run here, or LMDeploy would take its PyTorch engine in its place.
        ModelLoadError: the checkpoint cannot be loaded, or has no usable chat template.
    """
    lmdeploy = import_lmdeploy()
    from lmdeploy import turbomind
    from lmdeploy.archs import autoget_backend

    folder = str(info.folder)
    engine, vision = engine_config(settings), vision_config(settings)
    # The model's own template: LMDeploy would choose one by words in the folder's name.
    template = lmdeploy.ChatTemplateConfig(model_name="hf", model_path=folder)
    try:
        # Asked before too, because the other engine would fill the GPU's memory before it could be refused.
        backend = autoget_backend(folder, trust_remote_code=trust_remote_code)
        if backend != _TURBOMIND:
            raise _unavailable(info, backend) from turbomind._import_error
        pipe = lmdeploy.pipeline(
            folder,
            backend_config=engine,
            vision_config=vision,
            chat_template_config=template,
            log_level=settings.log_level,
            trust_remote_code=trust_remote_code,
        )
    except EngineUnavailableError:
        raise
    except Exception as error:  # LMDeploy's loaders raise whatever the checkpoint makes them stumble on
        raise ModelLoadError(
            f"LMDeploy's pipeline cannot load {info.folder}: {type(error).__name__}: {error}",
            hint="Check that the folder is complete and its architecture one that TurboMind knows.",
        ) from error
    loaded = LoadedPipeline(pipe, str(lmdeploy.__version__))
    if loaded.backend != _TURBOMIND:
        del pipe  # so that closing frees it
        loaded.close()
        raise _unavailable(info, loaded.backend)
    return loaded


def _unavailable(info: CheckpointInfo, backend: str) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"LMDeploy would run {info.folder.name}, a {info.architecture}, on its engine {backend!r} instead of "
        "TurboMind, and no slower engine takes its place.",
        hint="Install LMDeploy with its CUDA libraries: pip install 'fastinfer[turbomind]'; or choose another model.",
    )
