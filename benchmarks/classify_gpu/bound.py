"""What a picture costs in arithmetic, and what the GPU can do of it.

Counted are the multiplications and additions that the model's own definition asks for, two for each element of a matrix
product: the vision encoder over all patches, the projector, the language model over the prompt (attention only to what
comes before), and the output matrix for the one row that is read. Everything else (norms, activations, softmax) is left
out, as are sampling and further tokens. The GPU's rate is that of a bf16 matrix product of 8192 x 8192 x 8192, measured
with PyTorch in the same run.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_SIDE = 8192
#: Rounds that are not counted: the first ones find the GPU asleep.
_WARM_ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """Floating-point operations for one picture, by part."""

    vision: float
    projector: float
    language: float
    output: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.vision + self.projector + self.language + self.output


def read_config(model: Path) -> dict[str, Any]:
    """The configuration of a checkpoint in Hugging Face's form."""
    found: dict[str, Any] = json.loads((model / "config.json").read_text("utf-8"))
    return found


def head_size(config: Mapping[str, Any]) -> int:
    """Width of the language model's attention heads."""
    text = config["text_config"]
    return int(text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"])


def cost(config: Mapping[str, Any], prompt_tokens: float) -> Cost:
    """What one picture costs an InternVL, with a prompt of that many tokens, those of the image included."""
    vision, text = config["vision_config"], config["text_config"]
    height, width = vision["image_size"]
    patch = vision["patch_size"][0]
    patches = (height // patch) * (width // patch)
    seen = patches + 1  # the class token
    wide, inner = vision["hidden_size"], vision["intermediate_size"]
    layer = seen * (4 * wide * wide + 2 * wide * inner) + 2 * seen * seen * wide
    encoder = 2 * (vision["num_hidden_layers"] * layer + patches * wide * 3 * patch * patch)

    merged = round(1 / config["downsample_ratio"]) ** 2
    hidden = text["hidden_size"]
    projector = 2 * (patches // merged) * (wide * merged * hidden + hidden * hidden)

    heads = text["num_attention_heads"] * head_size(config)
    shared = text["num_key_value_heads"] * head_size(config)
    weights = 2 * hidden * heads + 2 * hidden * shared + 3 * hidden * text["intermediate_size"]
    attention = prompt_tokens * (prompt_tokens + 1) * heads
    language = 2 * text["num_hidden_layers"] * (prompt_tokens * weights + attention)
    return Cost(encoder, projector, language, 2 * hidden * text["vocab_size"])


def bound(config: Mapping[str, Any], prompt_tokens: float, tflops: float) -> dict[str, Any]:
    """The cost by part, the GPU's rate, and the pictures a second that follow if it does nothing else."""
    found = cost(config, prompt_tokens)
    return {
        "prompt_tokens": prompt_tokens,
        "gflop_a_picture": {name: round(value / 1e9, 3) for name, value in asdict(found).items()},
        "gflop_a_picture_in_all": round(found.total / 1e9, 3),
        "matrix_product_tflops": round(tflops, 1),
        "images_per_second": round(tflops * 1e12 / found.total, 1),
    }


def open_matrix_product(options: dict[str, Any]) -> tuple[dict[str, Any], Callable[[Any], Any], Callable[[], None]]:
    """Measures the GPU's rate on random data; a side that is asked nothing further."""
    import torch

    left, right = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for _ in range(_WARM_ROUNDS + options["rounds"]):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(20):
            left @ right
        torch.cuda.synchronize()
        rates.append(20 * 2 * _SIDE**3 / (time.perf_counter() - begun) / 1e12)
    tflops = statistics.median(rates[_WARM_ROUNDS:])
    info = {"tflops": tflops, "torch": torch.__version__, "cuda": torch.version.cuda}
    return info, lambda what: what, lambda: None
