"""Levels become the processor's numbers, rounded to the nearest in 16 bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastinfer.engines.turbomind.pictures.levels import PixelLevels, bfloat16_bits, float16_bits, normalised_levels

PUBLISHED = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "one half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
ROUNDINGS = {"bfloat16": bfloat16_bits, "float16": float16_bits}


def value_of(bits, kind):
    """The number of 16 bits, exactly."""
    if kind == "float16":
        return Fraction(float(np.array(bits, np.uint16).view(np.float16)))
    return Fraction(float(np.array(bits << 16, np.uint32).view(np.float32)))


@pytest.mark.parametrize("kind", ROUNDINGS)
@given(value=st.floats(min_value=-6e4, max_value=6e4, width=32, allow_subnormal=False))
def test_each_number_becomes_the_nearest_of_its_type(kind, value):
    bits = int(ROUNDINGS[kind](np.array([value], np.float32))[0])
    off = abs(value_of(bits, kind) - Fraction(value))
    for neighbour in (bits - 1, bits + 1):
        if (neighbour ^ bits) & 0x8000 == 0 and 0 <= neighbour <= 0xFFFF:
            assert off <= abs(value_of(neighbour, kind) - Fraction(value))


@pytest.mark.parametrize("kind", ROUNDINGS)
@given(bits=st.integers(min_value=0x2000, max_value=0x6FFF), sign=st.sampled_from([0, 0x8000]))
def test_a_number_in_the_middle_of_two_becomes_the_even_one(kind, bits, sign):
    below, above = bits | sign, (bits + 1) | sign
    middle = (value_of(below, kind) + value_of(above, kind)) / 2
    rounded = int(ROUNDINGS[kind](np.array([float(middle)], np.float32))[0])
    assert rounded == (below if below % 2 == 0 else above)


@pytest.mark.parametrize("kind", ROUNDINGS)
def test_both_zeros_keep_their_sign(kind):
    assert ROUNDINGS[kind](np.array([0.0, -0.0], np.float32)).tolist() == [0, 0x8000]


@pytest.mark.parametrize("kind", ROUNDINGS)
def test_rounding_is_that_of_torch(kind):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(1).normal(size=20_000).astype(np.float32)
    theirs = torch.from_numpy(values).to(getattr(torch, kind)).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(ROUNDINGS[kind](values), theirs)


@pytest.mark.parametrize("kind", ROUNDINGS)
@pytest.mark.parametrize("published", PUBLISHED)
def test_the_three_arithmetics_of_published_processors_agree_in_16_bits(published, kind):
    """Scaled first and in float64 (numpy), scaled by division (the original InternVL), scale folded in (torch)."""
    level = np.arange(256, dtype=np.float32)
    mean, std = PUBLISHED[published]
    ours = ROUNDINGS[kind](normalised_levels(mean, std, 1 / 255))
    for channel in range(3):
        middle, width, scale = np.float32(mean[channel]), np.float32(std[channel]), np.float32(255)
        for theirs in ((level / scale - middle) / width, (level - middle * scale) / (width * scale)):
            assert theirs.dtype == np.float32
            assert np.array_equal(ROUNDINGS[kind](theirs), ours[channel])


@pytest.mark.parametrize("kind", ROUNDINGS)
def test_every_level_of_every_channel_is_looked_up_in_its_own_column(kind):
    mean, std = PUBLISHED["ImageNet"]
    levels = PixelLevels(mean=mean, std=std, rescale=1 / 255, dtype=kind)
    planes = np.random.default_rng(3).integers(0, 256, (3, 40, 50), dtype=np.uint8)
    planes[:, 0, :2], planes[:, 0, 2:4] = 0, 255
    bits = np.zeros(planes.shape, np.uint16)
    levels.look_up(planes, bits)
    table = ROUNDINGS[kind](normalised_levels(mean, std, 1 / 255))
    assert all(np.array_equal(bits[channel], table[channel][planes[channel]]) for channel in range(3))


def test_normalised_levels_stay_in_float32():
    assert normalised_levels((0.5,) * 3, (0.5,) * 3, 1 / 255).dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": (0.5, 0.5)},
        {"std": (0.5, 0.5, 0.0)},
        {"std": (0.5, 0.5, float("nan"))},
        {"mean": (0.5, 0.5, float("inf"))},
        {"rescale": 0.0},
        {"dtype": "float32"},
    ],
)
def test_impossible_settings_are_refused(wrong):
    right = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "rescale": 1 / 255, "dtype": "bfloat16"}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PixelLevels(**{**right, **wrong})
