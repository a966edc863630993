"""What a checkpoint says of a picture by Transformers: its own processor and chat template, its network in float32."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

__all__ = ["Reference"]


class _Still:
    """A processor without its part for video, which needs torchvision, and which no picture comes by."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return type(argument)


class _InternVL(_Still, InternVLProcessor):
    pass


class _Qwen2VL(_Still, Qwen2VLProcessor):
    pass


class _Qwen3VL(_Still, Qwen3VLProcessor):
    pass


_PROCESSORS: dict[str, Any] = {
    "InternVLProcessor": _InternVL,
    "Qwen2VLProcessor": _Qwen2VL,
    "Qwen3VLProcessor": _Qwen3VL,
}


class Reference:
    """A checkpoint as Transformers runs it.

    Args:
        folder: the checkpoint.
        processor: its preprocessor_config.json.
        max_tiles: the most tiles that an InternVL picture is cut into.
    """

    def __init__(self, folder: Path, processor: Mapping[str, Any], *, max_tiles: int = 1) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        name = processor["processor_class"]
        images = GotOcr2ImageProcessorPil if name == "InternVLProcessor" else Qwen2VLImageProcessorPil
        more: dict[str, Any] = {}
        self._images: dict[str, Any] = {}
        if name == "InternVLProcessor":
            size, patch = processor["size"], 14
            more = {"image_seq_length": (size["height"] // patch // 2) * (size["width"] // patch // 2)}
            self._images = {"crop_to_patches": max_tiles > 1, "max_patches": max_tiles}
        self._processor = _PROCESSORS[name](
            images.from_pretrained(folder), self.tokenizer, None, chat_template=self.tokenizer.chat_template, **more
        )
        self._folder = folder
        self._network: Any = None

    def inputs(self, picture: Image.Image, prompt: str) -> dict[str, torch.Tensor]:
        """What the network is given for a picture and a text, as its documentation says to make it."""
        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        with warnings.catch_warnings():
            # Transformers' InternVLProcessor hands torch's tensors to numpy.
            warnings.simplefilter("ignore", DeprecationWarning)
            made = self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                add_generation_prompt=True,
                processor_kwargs={"images_kwargs": self._images},
            )
        return dict(made)

    def probabilities(
        self, picture: Image.Image, prompt: str, labels: Sequence[str]
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The labels' probabilities, by reading each of them after the prompt.

        A label that another one continues ends where it ends: the chance of an end token counts for it.
        """
        inputs = self.inputs(picture, prompt)
        tokens = [tuple(self.tokenizer(label, add_special_tokens=False).input_ids) for label in labels]
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        known: dict[tuple[int, ...], Any] = {}

        def after(path: tuple[int, ...]) -> Any:
            if path not in known:
                known[path] = self._next(inputs, path)
            return known[path]

        scores = []
        for own in tokens:
            score = sum(float(after(own[:i])[token]) for i, token in enumerate(own))
            if any(other != own and other[: len(own)] == own for other in tokens):
                score += float(np.logaddexp(after(own)[end], after(own)[pad]))
            scores.append(score)
        weights = np.exp(np.array(scores) - max(scores))
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    @property
    def network(self) -> Any:
        """The network in float32, on the CPU: on a GPU, convolutions would round to fewer bits."""
        if self._network is None:
            self._network = AutoModelForImageTextToText.from_pretrained(self._folder, dtype=torch.float32).eval()
        return self._network

    def _next(self, inputs: Mapping[str, torch.Tensor], path: tuple[int, ...]) -> Any:
        """Log-probabilities of the token after the prompt and ``path``: (vocabulary,) float64."""
        prompt = inputs["input_ids"]
        more = torch.tensor([path], dtype=prompt.dtype).reshape(1, -1)
        given = {**inputs, "input_ids": torch.cat([prompt, more], dim=1)}
        given["attention_mask"] = torch.ones_like(given["input_ids"])
        if "mm_token_type_ids" in given:
            given["mm_token_type_ids"] = torch.cat([given["mm_token_type_ids"], torch.zeros_like(more)], dim=1)
        with torch.inference_mode():
            scores = self.network(**given, use_cache=False).logits[0, -1]
        return scores.double().log_softmax(-1).numpy()
