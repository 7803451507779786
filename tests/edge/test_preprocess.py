import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat, Storage
from edge.preprocess import preprocess, to_rgb
from edge.unpack import unpack

FULL = Preprocessing(input_size_px=(256, 256))
COLOUR = (200, 120, 40)
BAYER = ("RG", "GR", "GB", "BG")
SEEDS = st.integers(0, 2**32 - 1)


def run(image, pixel_format, settings=FULL):
    out = np.zeros((256, 256, 3), np.uint8)
    preprocess(image, pixel_format, settings, out)
    return out


def filter_colours(pattern, height, width):
    """Which of R, G, B each pixel's filter lets through; the pattern is the first row's first two, as PFNC has it."""
    first, second = ("RGB".index(letter) for letter in pattern)
    blue_or_red = {0: 2, 1: 1, 2: 0}
    tile = [[first, second], [blue_or_red[second], blue_or_red[first]]]
    return np.tile(tile, (height // 2 + 1, width // 2 + 1))[:height, :width]


def mosaic(rgb, pattern="RG"):
    seen = filter_colours(pattern, *rgb.shape[:2])
    return np.take_along_axis(rgb, seen[..., None], axis=2)[..., 0]


def bilinear(raw, pattern, y, x):
    """RGB of a pixel inside the border: its own sample, else the mean of its neighbours of that colour, halves up."""
    seen = filter_colours(pattern, *raw.shape)
    colour = []
    for channel in range(3):
        if seen[y, x] == channel:
            colour.append(int(raw[y, x]))
            continue
        around = [(y + down, x + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        values = [int(raw[place]) for place in around if seen[place] == channel]
        colour.append((2 * sum(values) + len(values)) // (2 * len(values)))
    return colour


@pytest.mark.parametrize(
    ("pixel_format", "image"),
    [
        (PixelFormat.RGB8, np.full((300, 280, 3), COLOUR, np.uint8)),
        (PixelFormat.BGR8, np.full((300, 280, 3), COLOUR[::-1], np.uint8)),
        (PixelFormat.RGBA8, np.full((300, 280, 4), (*COLOUR, 9), np.uint8)),
        *((PixelFormat(f"Bayer{name}8"), mosaic(np.full((300, 280, 3), COLOUR, np.uint8), name)) for name in BAYER),
    ],
)
def test_every_format_keeps_its_colours(pixel_format, image):
    assert (run(image, pixel_format) == COLOUR).all()


def test_mono_is_grey():
    assert (run(np.full((300, 280), 77, np.uint8), PixelFormat.MONO8) == 77).all()


def test_the_bayer_pattern_starts_with_red():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[20:40, 20:40] = (250, 0, 0)
    seen = to_rgb(mosaic(rgb), PixelFormat.BAYER_RG8)
    assert seen[30, 30].tolist() == [250, 0, 0]


@pytest.mark.parametrize("pattern", BAYER)
@given(seed=SEEDS, height=st.integers(3, 7), width=st.integers(3, 40))
def test_a_mosaic_is_filled_bilinearly(pattern, seed, height, width):
    raw = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    seen = to_rgb(raw, PixelFormat(f"Bayer{pattern}8"))
    expected = [[bilinear(raw, pattern, y, x) for x in range(1, width - 1)] for y in range(1, height - 1)]
    assert np.array_equal(seen[1:-1, 1:-1], expected)


@pytest.mark.parametrize("pixel_format", [each for each in PixelFormat if each.storage is not Storage.BITS_8])
def test_more_than_eight_bits_are_cut_before_the_colours(pixel_format):
    raw = np.random.default_rng(5).integers(0, 256, pixel_format.shape(24, 9), dtype=np.uint8)
    with_8_bits = PixelFormat(re.sub(r"1\d.*", "8", pixel_format.value))
    assert np.array_equal(to_rgb(raw, pixel_format), to_rgb(unpack(raw, pixel_format), with_8_bits))


@given(seed=SEEDS, height=st.integers(1, 5), pairs=st.integers(1, 20))
def test_ycbcr_is_full_range_and_shares_chroma_in_pairs(seed, height, pairs):
    raw = np.random.default_rng(seed).integers(0, 256, (height, pairs, 4), dtype=np.uint8)
    y, cb, cr = raw[..., 0::2].astype(float), raw[..., 1:2] - 128.0, raw[..., 3:4] - 128.0
    # JPEG File Interchange Format 1.02: conversion from YCbCr
    expected = np.stack([y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb], axis=-1)
    seen = to_rgb(raw.reshape(height, 4 * pairs), PixelFormat.YCBCR422_8).reshape(height, pairs, 2, 3)
    assert np.abs(seen - expected.clip(0, 255)).max() <= 1


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_rows_may_lie_apart(pixel_format):
    raw = np.random.default_rng(6).integers(0, 256, pixel_format.shape(32, 300), dtype=np.uint8)
    rows = raw.reshape(300, -1)
    apart = np.pad(rows, ((0, 0), (3, 4)), constant_values=0xEE)[:, 3:-4].reshape(raw.shape)
    assert not apart.flags.c_contiguous
    assert np.array_equal(run(apart, pixel_format), run(raw, pixel_format))


@pytest.mark.parametrize(
    ("pixel_format", "shape"),
    [
        (PixelFormat.MONO8, (40, 60, 3)),
        (PixelFormat.RGB8, (40, 60)),
        (PixelFormat.RGB8, (40, 60, 4)),
        (PixelFormat.BAYER_RG12P, (40, 61)),
        (PixelFormat.YCBCR422_8, (40, 62)),
        (PixelFormat.RGB8, (0, 60, 3)),
        (PixelFormat.BAYER_BG8, (2, 60)),
        (PixelFormat.BAYER_GR12, (40, 4)),
    ],
)
def test_an_image_that_does_not_fit_its_format_is_refused(pixel_format, shape):
    with pytest.raises(ImageError):
        run(np.zeros(shape, np.uint8), pixel_format)


def test_the_region_of_interest_is_cut_before_the_resize():
    image = np.zeros((400, 600, 3), np.uint8)
    image[100:356, 50:306] = 255
    roi = Preprocessing(input_size_px=(256, 256), roi_xywh=(50, 100, 256, 256))
    assert (run(image, PixelFormat.RGB8, roi) == 255).all()


@pytest.mark.parametrize("roi", [(-1, 0, 10, 10), (0, 0, 0, 10), (55, 0, 10, 10), (0, 35, 10, 10)])
def test_a_region_outside_the_image_is_refused(roi):
    with pytest.raises(ImageError, match="does not lie inside the 60x40 image"):
        run(np.zeros((40, 60), np.uint8), PixelFormat.MONO8, Preprocessing(input_size_px=(256, 256), roi_xywh=roi))


@given(st.integers(2, 700), st.integers(2, 700), st.integers(0, 255))
def test_any_size_fills_the_input_and_keeps_the_mean(height, width, grey):
    assert (run(np.full((height, width), grey, np.uint8), PixelFormat.MONO8) == grey).all()


def test_shrinking_averages_over_areas():
    image = np.zeros((512, 512), np.uint8)
    image[::2, ::2] = 200
    assert (run(image, PixelFormat.MONO8) == 50).all()
