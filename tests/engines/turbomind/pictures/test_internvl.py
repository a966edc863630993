"""InternVL images are bit for bit those of Transformers' processor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from fastinfer.engines.turbomind.pictures import InternVLPreparation

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = (56, 56)


def prepare_with(max_tiles, *, side=SIDE, dtype="bfloat16", thumbnail=True, min_tiles=1):
    return InternVLPreparation(
        side=side,
        tokens_per_tile=4,
        mean=MEAN,
        std=STD,
        rescale=1 / 255,
        dtype=dtype,
        max_tiles=max_tiles,
        min_tiles=min_tiles,
        thumbnail=thumbnail,
    )


def model_processor(max_tiles, *, side=SIDE, min_tiles=1):
    return GotOcr2ImageProcessorPil(
        size={"width": side[0], "height": side[1]},
        image_mean=list(MEAN),
        image_std=list(STD),
        crop_to_patches=max_tiles > 1,
        min_patches=min_tiles,
        max_patches=max_tiles,
    )


def floats_of(processor, pixels):
    values = np.stack(processor(Image.fromarray(pixels))["pixel_values"])
    assert values.dtype == np.float32
    return values


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("side", [(56, 56), (84, 56), (112, 112)])
def test_one_tile_is_that_of_the_model_processor(pictures, in_16_bits, side, dtype):
    preparation, processor = prepare_with(1, side=side, dtype=dtype), model_processor(1, side=side)
    assert preparation.image_size == side
    for name, pixels in pictures.items():
        prepared = preparation.prepare(pixels)
        assert prepared.data.shape == (1, 3, side[1], side[0])
        assert np.array_equal(prepared.data, in_16_bits[dtype](floats_of(processor, pixels))), name
        assert (prepared.tokens, prepared.grid) == (4, None)


@pytest.mark.parametrize(("min_tiles", "max_tiles"), [(1, 2), (1, 6), (3, 12)])
def test_tiles_and_thumbnail_are_those_of_the_model_processor(pictures, in_16_bits, min_tiles, max_tiles):
    preparation = prepare_with(max_tiles, min_tiles=min_tiles)
    processor = model_processor(max_tiles, min_tiles=min_tiles)
    assert preparation.image_size is None
    several = 0
    for name, pixels in pictures.items():
        prepared = preparation.prepare(pixels)
        theirs = in_16_bits["bfloat16"](floats_of(processor, pixels))
        assert np.array_equal(prepared.data, theirs), name
        assert prepared.tokens == 4 * len(theirs) == preparation.tokens(pixels.shape[1], pixels.shape[0])
        several += len(theirs) > 1
    assert several > 3


def test_without_a_thumbnail_there_are_the_same_tiles_and_no_more(pictures):
    pixels = pictures["noise 37x501"]
    tiles = prepare_with(6).prepare(pixels).data
    assert np.array_equal(prepare_with(6, thumbnail=False).prepare(pixels).data, tiles[:-1])
    assert prepare_with(6, thumbnail=False).most_tokens == 24


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    limits=st.tuples(st.integers(1, 14), st.integers(1, 14)).map(sorted),
)
def test_tokens_are_counted_as_the_model_processor_counts_tiles(width, height, limits):
    fewest, most = limits
    preparation = prepare_with(most, min_tiles=fewest)
    theirs = model_processor(most, min_tiles=fewest).get_number_of_image_patches(height, width)
    assert preparation.tokens(width, height) == 4 * theirs <= preparation.most_tokens


@pytest.mark.parametrize("max_tiles", [6, 12, 24, 40])
def test_no_image_is_equally_near_to_two_grids_of_as_many_tiles(max_tiles):
    """So the original processor, which goes through them in another order, cuts every image alike."""
    sides = range(1, max_tiles + 1)
    shapes = {(columns, rows) for columns in sides for rows in sides if columns * rows <= max_tiles}
    for first, second in combinations(sorted(shapes), 2):
        if first[0] * first[1] != second[0] * second[1]:
            continue
        between = (first[0] / first[1] + second[0] / second[1]) / 2
        distance = abs(between - first[0] / first[1])
        assert any(abs(between - columns / rows) < distance - 1e-9 for columns, rows in shapes)


def test_a_sized_image_is_not_resized_again():
    pixels = np.random.default_rng(2).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    in_place = prepare_with(1).prepare(pixels).data
    turned = prepare_with(1).prepare(np.asfortranarray(pixels)).data
    assert np.array_equal(in_place, turned)
    assert len(np.unique(in_place[0, 0][pixels[:, :, 0] == 17])) == 1


def test_eight_threads_get_what_one_gets(pictures):
    preparation = prepare_with(6)
    many = [pixels for pixels in pictures.values() for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(preparation.prepare, many))
    for pixels, prepared in zip(many, together, strict=True):
        assert np.array_equal(prepared.data, preparation.prepare(pixels).data)


def test_the_image_itself_stays_as_it_is(pictures):
    pixels = pictures["noise 64x64"].copy()
    pixels.flags.writeable = False
    prepare_with(1, side=(64, 64)).prepare(pixels)
    prepare_with(4).prepare(pixels)
    assert np.array_equal(pixels, pictures["noise 64x64"])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((56, 56, 3), np.float32),
        np.zeros((56, 56, 4), np.uint8),
        np.zeros((56, 56), np.uint8),
        np.zeros((0, 56, 3), np.uint8),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels):
    with pytest.raises(ValueError, match=r"uint8 of shape \(height, width, 3\)"):
        prepare_with(1).prepare(pixels)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"side": (55, 56)}, "even"),
        ({"side": (0, 56)}, "even"),
        ({"max_tiles": 0}, "min_tiles"),
        ({"max_tiles": 2, "min_tiles": 3}, "min_tiles"),
    ],
)
def test_impossible_settings_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        prepare_with(**{"max_tiles": 1, **wrong})
