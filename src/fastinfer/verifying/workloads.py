"""The work that receipts are taken with: made here from numbers alone, so that it is the same everywhere."""

from __future__ import annotations

import io
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from PIL import Image

from fastinfer.engines.cores import usable_cores
from fastinfer.errors import PresetError
from fastinfer.measuring import Workload
from fastinfer.preset_library import LlamaChatParameters, Preset, TurbomindClassifyParameters

if TYPE_CHECKING:
    from fastinfer.chat.model import LLM

__all__ = ["image_files", "label_set", "prompt_tokens", "prompts", "standard_workload"]

_PHOTOGRAPHS: Final = "generated JPEG files of 448 px"
_PROMPTS: Final = "prompts of {} tokens, random words"

_THINGS: Final = (
    "apple", "anchor", "arrow", "axe", "badge", "ball", "banana", "barrel", "basket", "bear", "bell", "bench",
    "bird", "boat", "book", "boot", "bottle", "bowl", "branch", "brick", "bridge", "broom", "brush", "bucket",
    "button", "cactus", "cake", "camel", "camera", "candle", "canoe", "castle", "chain", "chair", "cheese",
    "cherry", "clock", "cloud", "coat", "coin", "comb", "crab", "cradle", "crown", "cup", "desk", "dice", "door",
    "dragon", "drawer", "dress", "drum", "duck", "eagle", "engine", "envelope", "fan", "feather", "fence", "flag",
    "flower", "flute", "forest", "fork", "fountain", "fox", "frog", "garden", "gate", "ghost", "giraffe", "glass",
    "glove", "goat", "grape", "guitar", "hammer", "harp", "hat", "helmet", "horse", "island", "jacket", "jar",
    "jewel", "kettle", "kite", "knife", "ladder", "lamp", "leaf", "lemon", "lion", "lock", "magnet", "mask",
    "mirror", "moon", "mountain", "mouse",
)  # fmt: skip


def standard_workload(preset: Preset) -> Workload:
    """What the receipt of a preset is taken with: enough to fill its engine several times over, less for a CPU."""
    parameters = preset.parameters
    if isinstance(parameters, LlamaChatParameters):
        prompt, reply = (128, 64) if parameters.n_gpu_layers == 0 else (512, 128)
        return Workload(_PROMPTS.format(prompt), 4 * parameters.parallel, max_tokens=reply)
    return Workload(_PHOTOGRAPHS, 512 if isinstance(parameters, TurbomindClassifyParameters) else 128, labels=10)


def image_files(workload: Workload) -> list[bytes]:
    """The images of a round, encoded, no two alike; the same ones every time.

    Raises:
        PresetError: there are none of this name.
    """
    if workload.name != _PHOTOGRAPHS:
        raise _unknown(workload)
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(_photograph, range(workload.items)))


def label_set(workload: Workload) -> list[str] | None:
    """As many labels as the workload has, up to 100; None where it has none."""
    return None if workload.labels is None else list(_THINGS[: workload.labels])


def prompt_tokens(workload: Workload) -> int:
    """Tokens of each prompt, the chat template's included.

    Raises:
        PresetError: the workload is not made of prompts.
    """
    before, after = _PROMPTS.split("{}")
    number = workload.name.removeprefix(before).removesuffix(after)
    if not number.isdecimal():
        raise _unknown(workload)
    return int(number)


def prompts(llm: LLM, workload: Workload) -> list[str]:
    """The prompts of a round, each a single message of random words; the same ones for the same tokenizer.

    They are counted with the model's own tokenizer, and up to a word shorter than asked for.

    Raises:
        PresetError: the workload is not made of prompts.
    """
    tokens = prompt_tokens(workload)
    return [_prompt(llm, tokens, random.Random(seed)) for seed in range(workload.items)]


def _prompt(llm: LLM, tokens: int, choice: random.Random) -> str:
    words = choice.choices(_THINGS, k=tokens)
    used = tokens
    # A tokenizer takes some number of tokens a word, and the template some more: twice nearer, then word by word.
    for _ in range(2):
        found = llm.count_tokens(" ".join(words[:used]))
        used = max(1, min(tokens, used * tokens // found))
    while used > 1 and llm.count_tokens(" ".join(words[:used])) > tokens:
        used -= 1
    return " ".join(words[:used])


def _photograph(seed: int) -> bytes:
    """A JPEG file that weighs what a photograph does: noise whose amplitude falls with frequency, in muted colours."""
    import numpy as np

    side = 448
    generator = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    distance = np.hypot(rows, columns)
    distance[0, 0] = 1.0
    phases = generator.uniform(0, 2 * np.pi, (3, *distance.shape))
    waves = np.fft.irfft2(np.exp(1j * phases) / distance**1.7, s=(side, side))
    waves /= waves.std(axis=(1, 2), keepdims=True)
    light, colour = waves[0], waves - waves.mean(axis=0)
    pixels = 128 + 50 * light[..., None] + 15 * colour.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _unknown(workload: Workload) -> PresetError:
    return PresetError(
        f"The work {workload.name!r} cannot be done again: it is not made by this package.",
        hint="Take a receipt of your own with fastinfer.measuring.take_receipt.",
    )
