"""Qwen images are bit for bit those of Transformers' processor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from fastinfer.engines.turbomind.pictures import QwenVLPreparation
from fastinfer.errors import ImageDecodeError

CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
QWEN2 = {"patch": 14, "merge": 2, "temporal": 2, **CLIP}
QWEN3_5 = {"patch": 16, "merge": 2, "temporal": 2, **HALF}
OTHER = {"patch": 8, "merge": 3, "temporal": 1, **CLIP}


def prepare_with(model=QWEN2, *, min_pixels=56 * 56, max_pixels=28 * 28 * 64, dtype="bfloat16"):
    return QwenVLPreparation(**model, rescale=1 / 255, min_pixels=min_pixels, max_pixels=max_pixels, dtype=dtype)


def model_processor(model=QWEN2, *, min_pixels=56 * 56, max_pixels=28 * 28 * 64):
    return Qwen2VLImageProcessorPil(
        patch_size=model["patch"],
        merge_size=model["merge"],
        temporal_patch_size=model["temporal"],
        image_mean=list(model["mean"]),
        image_std=list(model["std"]),
        size={"shortest_edge": min_pixels, "longest_edge": max_pixels},
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("model", [QWEN2, QWEN3_5, OTHER], ids=["patch 14", "patch 16", "patch 8, merge 3, one frame"])
def test_patches_and_grid_are_those_of_the_model_processor(pictures, in_16_bits, model, dtype):
    preparation, processor = prepare_with(model, dtype=dtype), model_processor(model)
    for name, pixels in pictures.items():
        theirs, prepared = processor(Image.fromarray(pixels)), preparation.prepare(pixels)
        assert theirs["pixel_values"].dtype == np.float32
        assert np.array_equal(prepared.data, in_16_bits[dtype](theirs["pixel_values"])), name
        assert prepared.grid == tuple(theirs["image_grid_thw"][0].tolist())
        assert prepared.tokens * model["merge"] ** 2 == len(prepared.data)
        assert prepared.tokens == preparation.tokens(pixels.shape[1], pixels.shape[0]) <= preparation.most_tokens


limits = st.tuples(st.integers(1, 3_000_000), st.integers(1, 3_000_000)).map(sorted)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), limits=limits, model=st.sampled_from([QWEN2, QWEN3_5]))
def test_sizes_are_those_of_the_model_processor(width, height, limits, model):
    preparation = prepare_with(model, min_pixels=limits[0], max_pixels=limits[1])
    side = model["patch"] * model["merge"]
    try:
        new_height, new_width = smart_resize(height, width, side, *limits)
    except ValueError:
        with pytest.raises(ImageDecodeError, match="200 times"):
            preparation.tokens(width, height)
    else:
        assert preparation.tokens(width, height) == new_height * new_width // side**2


@given(
    shape=st.floats(min_value=1, max_value=200),
    area=st.floats(min_value=1, max_value=4_000_000),
    limits=st.tuples(st.integers(1, 400_000), st.integers(1, 400_000)).map(sorted),
)
def test_no_image_takes_more_than_the_most_tokens(shape, area, limits):
    width, height = max(1, round((area * shape) ** 0.5)), max(1, round((area / shape) ** 0.5))
    preparation = prepare_with(min_pixels=limits[0], max_pixels=limits[1])
    if width <= 200 * height:
        assert preparation.tokens(width, height) <= preparation.most_tokens
        assert preparation.tokens(height, width) <= preparation.most_tokens


@pytest.mark.parametrize("tokens", [4, 16, 64, 256, 1280])
def test_the_most_tokens_are_hardly_more_than_an_image_can_take(tokens):
    preparation = prepare_with(max_pixels=28 * 28 * tokens)
    longest = max(preparation.tokens(100 * shape, 100) for shape in range(1, 201))
    assert longest <= preparation.most_tokens <= longest * 1.1 + 2


@pytest.mark.parametrize("size", [(201, 1), (1, 201), (4021, 20)])
def test_an_image_too_long_for_the_model_is_an_image_error_that_says_so(size):
    width, height = size
    with pytest.raises(ImageDecodeError, match=f"{width}x{height} pixels.*200 times") as caught:
        prepare_with().prepare(np.zeros((height, width, 3), np.uint8))
    assert caught.value.hint
    assert prepare_with().tokens(200, 1) >= 1


def test_both_frames_of_a_still_image_are_the_same(pictures):
    data = prepare_with().prepare(pictures["tree.jpg"]).data.reshape(-1, 3, 2, 14 * 14)
    assert np.array_equal(data[:, :, 0], data[:, :, 1])


def test_eight_threads_get_what_one_gets(pictures):
    preparation = prepare_with()
    many = [pixels for pixels in pictures.values() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(preparation.prepare, many))
    for pixels, prepared in zip(many, together, strict=True):
        assert np.array_equal(prepared.data, preparation.prepare(pixels).data)


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="float64"):
        prepare_with().prepare(np.zeros((56, 56, 3)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"model": {**QWEN2, "patch": 7}}, "patch"),
        ({"model": {**QWEN2, "merge": 0}}, "merge"),
        ({"model": {**QWEN2, "temporal": 0}}, "temporal"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"min_pixels": 5000, "max_pixels": 4000}, "min_pixels"),
    ],
)
def test_impossible_settings_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        prepare_with(**wrong)
