"""From decoded pixels to what TurboMind's vision encoders take, bit for bit as the model's own image processor has it.

An image processor resizes with Pillow's bicubic filter, scales the 8-bit levels, normalises them and rounds to the
model's 16-bit type. 256 levels in 3 channels make that a table of 768 numbers (``levels``). What remains is the resize
and the order of the numbers, which differs by model (``internvl``, ``qwen_vl``); ``choosing`` reads both from the
checkpoint. Needs neither torch nor transformers, and works in several threads at once.
"""

from fastinfer.engines.turbomind.pictures.choosing import Described, DescribedVision, preparation_for
from fastinfer.engines.turbomind.pictures.internvl import InternVLPreparation
from fastinfer.engines.turbomind.pictures.prepared import Preparation
from fastinfer.engines.turbomind.pictures.qwen_vl import QwenVLPreparation

__all__ = [
    "Described",
    "DescribedVision",
    "InternVLPreparation",
    "Preparation",
    "QwenVLPreparation",
    "preparation_for",
]
