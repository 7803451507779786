import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageError
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.preprocess import preprocess, to_rgb

FULL = Preprocessing(input_size_px=(256, 256))
COLOUR = (200, 120, 40)


def run(image, pixel_format, settings=FULL):
    out = np.zeros((256, 256, 3), np.uint8)
    preprocess(image, pixel_format, settings, out)
    return out


def mosaic_rggb(rgb):
    raw = np.empty(rgb.shape[:2], np.uint8)
    raw[0::2, 0::2] = rgb[0::2, 0::2, 0]
    raw[0::2, 1::2] = rgb[0::2, 1::2, 1]
    raw[1::2, 0::2] = rgb[1::2, 0::2, 1]
    raw[1::2, 1::2] = rgb[1::2, 1::2, 2]
    return raw


@pytest.mark.parametrize(
    ("pixel_format", "image"),
    [
        (PixelFormat.RGB8, np.full((300, 280, 3), COLOUR, np.uint8)),
        (PixelFormat.BGR8, np.full((300, 280, 3), COLOUR[::-1], np.uint8)),
        (PixelFormat.RGBA8, np.full((300, 280, 4), (*COLOUR, 9), np.uint8)),
        (PixelFormat.BAYER_RG8, mosaic_rggb(np.full((300, 280, 3), COLOUR, np.uint8))),
    ],
)
def test_every_format_keeps_its_colours(pixel_format, image):
    assert (run(image, pixel_format) == COLOUR).all()


def test_mono_is_grey():
    assert (run(np.full((300, 280), 77, np.uint8), PixelFormat.MONO8) == 77).all()


def test_the_bayer_pattern_starts_with_red():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[20:40, 20:40] = (250, 0, 0)
    seen = to_rgb(mosaic_rggb(rgb), PixelFormat.BAYER_RG8)
    assert seen[30, 30].tolist() == [250, 0, 0]


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
