"""How far Transformers' torch processors are from the Pillow ones that everything here follows.

Where torchvision is installed, Transformers takes them unless told otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fastinfer.engines.turbomind.pictures import InternVLPreparation, QwenVLPreparation

pytest.importorskip("torchvision")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = (224, 224)


def internvl():
    return InternVLPreparation(
        side=SIDE,
        tokens_per_tile=64,
        mean=MEAN,
        std=STD,
        rescale=1 / 255,
        dtype="bfloat16",
        max_tiles=1,
        thumbnail=True,
    )


def torch_internvl(pixels):
    from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

    processor = GotOcr2ImageProcessor(
        size={"width": SIDE[0], "height": SIDE[1]}, image_mean=list(MEAN), image_std=list(STD), crop_to_patches=False
    )
    return np.asarray(processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"])


def sized(pixels, size):
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def test_internvl_images_of_the_encoder_s_size_are_the_same(pictures, in_16_bits):
    for name, pixels in pictures.items():
        exact = sized(pixels, SIDE)
        assert np.array_equal(internvl().prepare(exact).data, in_16_bits["bfloat16"](torch_internvl(exact))), name


def test_qwen_images_of_a_size_that_stays_are_the_same(pictures, in_16_bits):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(image_mean=list(MEAN), image_std=list(STD))
    preparation = QwenVLPreparation(
        patch=14,
        merge=2,
        temporal=2,
        mean=MEAN,
        std=STD,
        rescale=1 / 255,
        min_pixels=56 * 56,
        max_pixels=28 * 28 * 1280,
        dtype="bfloat16",
    )
    for name, pixels in pictures.items():
        exact = sized(pixels, (224, 140))
        theirs, ours = processor(Image.fromarray(exact), return_tensors="np"), preparation.prepare(exact)
        assert np.array_equal(ours.data, in_16_bits["bfloat16"](theirs["pixel_values"])), name
        assert ours.grid == (1, 10, 16) == tuple(theirs["image_grid_thw"][0].tolist())


def test_photographs_and_drawings_resized_by_torch_differ_by_two_levels_at_most(pictures):
    """Its bicubic filter rounds in other places. In noise the order of the two passes adds to that."""
    level = 1 / 255 / np.array(STD)[:, None, None]
    for name, pixels in pictures.items():
        if not name.startswith("noise"):
            off = np.abs(torch_internvl(pixels) - torch_internvl(sized(pixels, SIDE))) / level
            assert off.max() < 2.01, name
            assert (off > 0.5).mean() < 0.005, name
