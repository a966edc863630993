"""A checkpoint's own files decide how its images are made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from fastinfer.engines.turbomind.pictures import (
    InternVLPreparation,
    QwenVLPreparation,
    preparation_for,
)
from fastinfer.errors import ModelLoadError


@dataclass(frozen=True)
class Vision:
    patch: int = 14
    merge: int = 2
    image_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Info:
    architecture: str
    processor: dict[str, Any]
    vision: Vision | None
    image_tokens: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path("models/some")


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}

INTERNVL = Info(
    "InternVLForConditionalGeneration",
    {
        "crop_to_patches": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        **IMAGENET,
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "max_patches": 12,
        "min_patches": 1,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 56, "width": 56},
    },
    Vision(image_size=(56, 56)),
    image_tokens=4,
)
ORIGINAL = Info(
    "InternVLChatModel",
    {
        "crop_size": 56,
        "do_center_crop": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        **CLIP,
        "size": 56,
    },
    Vision(image_size=(56, 56)),
    image_tokens=4,
    config={"dynamic_image_size": True, "use_thumbnail": True, "min_dynamic_patch": 1, "max_dynamic_patch": 12},
)
QWEN2 = Info(
    "Qwen2VLForConditionalGeneration",
    {
        "min_pixels": 3136,
        "max_pixels": 12845056,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **CLIP,
        "image_processor_type": "Qwen2VLImageProcessor",
    },
    Vision(),
)
QWEN2_5 = replace(QWEN2, architecture="Qwen2_5_VLForConditionalGeneration")
QWEN3_5 = Info(
    "Qwen3_5ForConditionalGeneration",
    {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "Qwen2VLImageProcessorFast",
    },
    Vision(patch=16),
)


def chosen(info, *, dtype="bfloat16", max_tiles=1, min_pixels=0, max_pixels=0):
    return preparation_for(info, dtype=dtype, max_tiles=max_tiles, min_pixels=min_pixels, max_pixels=max_pixels)


def changed(info, **processor):
    kept = {name: value for name, value in {**info.processor, **processor}.items() if value != "left out"}
    return replace(info, processor=kept)


@pytest.mark.parametrize("max_tiles", [1, 4])
def test_internvl_images_are_those_of_the_processor_that_the_file_describes(pictures, in_16_bits, max_tiles):
    preparation = chosen(INTERNVL, max_tiles=max_tiles)
    assert isinstance(preparation, InternVLPreparation)
    processor = GotOcr2ImageProcessorPil(**INTERNVL.processor)
    for pixels in pictures.values():
        theirs = processor(Image.fromarray(pixels), crop_to_patches=True, max_patches=max_tiles)["pixel_values"]
        assert np.array_equal(preparation.prepare(pixels).data, in_16_bits["bfloat16"](np.stack(theirs)))


@pytest.mark.parametrize("info", [QWEN2, QWEN2_5, QWEN3_5], ids=lambda info: info.architecture)
def test_qwen_images_are_those_of_the_processor_that_the_file_describes(pictures, in_16_bits, info):
    preparation = chosen(info)
    assert isinstance(preparation, QwenVLPreparation)
    processor = Qwen2VLImageProcessorPil(**info.processor)
    for pixels in pictures.values():
        prepared, theirs = preparation.prepare(pixels), processor(Image.fromarray(pixels))
        assert np.array_equal(prepared.data, in_16_bits["bfloat16"](theirs["pixel_values"]))
        assert prepared.grid == tuple(theirs["image_grid_thw"][0].tolist())


def test_the_original_internvl_uses_imagenet_numbers_whatever_its_file_says(pictures):
    native, original = chosen(INTERNVL, max_tiles=6), chosen(ORIGINAL, max_tiles=6)
    without_file = chosen(replace(ORIGINAL, processor={}), max_tiles=6)
    for pixels in pictures.values():
        data = native.prepare(pixels).data
        assert np.array_equal(original.prepare(pixels).data, data)
        assert np.array_equal(without_file.prepare(pixels).data, data)


def test_the_original_internvl_adds_the_whole_image_only_where_its_configuration_says_so():
    plain = replace(ORIGINAL, config={"dynamic_image_size": True})
    assert (chosen(ORIGINAL, max_tiles=6).most_tokens, chosen(plain, max_tiles=6).most_tokens) == (28, 24)


def test_what_a_file_leaves_out_is_as_in_the_processor_classes(pictures, in_16_bits):
    left_out = dict.fromkeys(QWEN2.processor, "left out")
    bare = changed(QWEN2, **{**left_out, "image_processor_type": "Qwen2VLImageProcessor"})
    pixels = pictures["tree.jpg"]
    theirs = Qwen2VLImageProcessorPil()(Image.fromarray(pixels))["pixel_values"]
    assert np.array_equal(chosen(bare).prepare(pixels).data, in_16_bits["bfloat16"](theirs))
    bare = changed(
        INTERNVL, image_mean="left out", image_std="left out", rescale_factor="left out", resample="left out"
    )
    theirs = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56})(Image.fromarray(pixels))["pixel_values"]
    assert np.array_equal(chosen(bare).prepare(pixels).data, in_16_bits["bfloat16"](np.stack(theirs)))


def test_one_number_stands_for_all_channels():
    one, three = changed(QWEN3_5, image_mean=0.5, image_std=0.5), QWEN3_5
    pixels = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(chosen(one).prepare(pixels).data, chosen(three).prepare(pixels).data)


def test_the_type_asked_for_is_the_type_of_the_bits():
    pixels = np.full((56, 56, 3), 255, np.uint8)
    half = chosen(INTERNVL, dtype="float16").prepare(pixels).data.view(np.float16)
    assert half[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=2e-3)


@pytest.mark.parametrize(
    "sizes",
    [
        {"min_pixels": 4 * 784, "max_pixels": 9 * 784},
        {"size": {"shortest_edge": 4 * 784, "longest_edge": 9 * 784}},
        {"size": {"min_pixels": 4 * 784, "max_pixels": 9 * 784}},
        {"size": {"shortest_edge": 1, "longest_edge": 1}, "min_pixels": 4 * 784, "max_pixels": 9 * 784},
    ],
)
def test_a_qwen_file_may_give_its_limits_in_any_of_the_published_ways(sizes):
    info = changed(QWEN2, **{"min_pixels": "left out", "max_pixels": "left out", **sizes})
    assert chosen(info).tokens(28, 28) == 4
    assert chosen(info).tokens(2800, 2800) == 9


def test_given_limits_stand_in_for_the_model_s_own():
    assert chosen(QWEN2).tokens(560, 560) == 400
    assert chosen(QWEN2, max_pixels=100 * 784).tokens(560, 560) == 100
    assert chosen(QWEN2, min_pixels=900 * 784).tokens(560, 560) == 900
    assert chosen(QWEN2, min_pixels=25 * 784, max_pixels=25 * 784).tokens(560, 560) == 25


def test_where_one_limit_is_given_the_model_s_own_other_one_makes_way():
    assert chosen(QWEN3_5, max_pixels=4 * 1024).tokens(640, 640) == 4
    assert chosen(QWEN2, min_pixels=150 * 150 * 784).tokens(56, 56) >= 150 * 150 > 12845056 // 784


def test_fewer_tiles_than_the_model_s_fewest_are_as_asked():
    assert chosen(changed(INTERNVL, min_patches=3), max_tiles=2).most_tokens == 12
    assert chosen(changed(INTERNVL, min_patches=3), max_tiles=1).image_size == (56, 56)


@pytest.mark.parametrize(
    "info",
    [
        replace(INTERNVL, architecture="LlavaForConditionalGeneration"),
        replace(INTERNVL, vision=None),
        replace(INTERNVL, processor={}),
        changed(INTERNVL, image_processor_type="CLIPImageProcessor"),
        changed(INTERNVL, do_normalize=False),
        changed(INTERNVL, resample=2),
        changed(INTERNVL, size={"shortest_edge": 56}),
        changed(INTERNVL, size=56),
        replace(ORIGINAL, config={"dynamic_image_size": False}),
        replace(ORIGINAL, vision=Vision(image_size=None)),
        changed(QWEN2, image_processor_type="SiglipImageProcessor"),
        changed(QWEN2, do_resize=False),
        replace(QWEN2, processor={}),
    ],
)
def test_there_is_none_for_processors_that_do_something_else(info):
    assert chosen(info) is None


@pytest.mark.parametrize(
    ("info", "named"),
    [
        (changed(INTERNVL, size={"height": 448, "width": 448}), "size .*encoder's"),
        (changed(INTERNVL, size={"height": "56", "width": 56}), "size.height"),
        (changed(INTERNVL, image_mean=[0.5, 0.5]), "image_mean"),
        (changed(INTERNVL, image_mean=[0.5, 0.5, "0.5"]), "image_mean"),
        (changed(INTERNVL, image_std=[0.5, 0.5, 0]), "image_std"),
        (changed(INTERNVL, rescale_factor=True), "rescale_factor"),
        (changed(INTERNVL, do_resize="yes"), "do_resize"),
        (changed(INTERNVL, min_patches=0), "min_patches"),
        (replace(INTERNVL, image_tokens=None), "how many tokens"),
        (replace(ORIGINAL, vision=Vision(image_size=(55, 55))), "55x55"),
        (changed(QWEN2, patch_size=16), "patch_size .*encoder's, 14"),
        (changed(QWEN2, merge_size=3), "merge_size .*encoder's, 2"),
        (changed(QWEN2, min_pixels=-1), "min_pixels"),
        (changed(QWEN2, min_pixels=99999999), "limits in order"),
        (changed(QWEN2, temporal_patch_size=None, size=7), "size"),
    ],
)
def test_a_damaged_or_contradictory_file_is_a_load_error_that_names_the_field(info, named):
    with pytest.raises(ModelLoadError, match=named) as caught:
        chosen(info)
    assert caught.value.hint


@pytest.mark.parametrize(
    "limits", [{"max_tiles": 0}, {"min_pixels": -1}, {"max_pixels": -1}, {"min_pixels": 9000, "max_pixels": 8000}]
)
def test_impossible_limits_are_refused(limits):
    with pytest.raises(ValueError, match="in order"):
        chosen(QWEN2, **limits)
