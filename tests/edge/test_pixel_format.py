import pytest
from harvesters.util import pfnc
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageError
from edge.pixel_format import Colour, PixelFormat, Storage

CODES = {name: code for code, name in pfnc.symbolics.items()}
FORMATS = st.sampled_from(list(PixelFormat))


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_names_and_bits_per_pixel_are_the_standards(pixel_format):
    bits_per_pixel = CODES[pixel_format.value] >> 16 & 0xFF
    assert pixel_format.row_bytes(8) == bits_per_pixel


def test_a_name_says_storage_and_colour():
    assert [(member.storage, member.colour) for member in map(PixelFormat, ("Mono16", "BayerGB12Packed", "RGBa8"))] == [
        (Storage.BITS_16, Colour.MONO),
        (Storage.GVSP_12, Colour.BAYER_GB),
        (Storage.BITS_8, Colour.RGBA),
    ]


@given(FORMATS, st.integers(1, 1000), st.integers(1, 9))
def test_the_width_is_found_again(pixel_format, groups, height_px):
    width_px = 4 * groups
    shape = pixel_format.shape(width_px, height_px)
    assert shape[0] == height_px
    assert pixel_format.width_px(shape) == width_px


@given(FORMATS, st.integers(-2, 100))
def test_a_row_is_whole_bytes_or_refused(pixel_format, width_px):
    bits = width_px * pixel_format.row_bytes(8)
    breaks_pairs = width_px % 2 and (pixel_format.colour is Colour.YCBYCR or pixel_format.value.endswith("Packed"))
    if width_px < 1 or bits % 8 or breaks_pairs:
        with pytest.raises(ImageError, match=f"{width_px} pixels .* {pixel_format.value}"):
            pixel_format.row_bytes(width_px)
    else:
        assert pixel_format.row_bytes(width_px) == bits // 8


@pytest.mark.parametrize(
    ("pixel_format", "shape"),
    [
        (PixelFormat.MONO8, (4, 4, 1)),
        (PixelFormat.MONO8, (16,)),
        (PixelFormat.MONO8, (4, 0)),
        (PixelFormat.MONO16, (4, 5)),
        (PixelFormat.MONO10P, (4, 6)),
        (PixelFormat.MONO12_PACKED, (4, 4)),
        (PixelFormat.RGB8, (4, 12)),
        (PixelFormat.RGB8, (4, 3, 4)),
        (PixelFormat.RGBA8, (4, 4, 3)),
        (PixelFormat.YCBCR422_8, (4, 6)),
        (PixelFormat.YCBCR422_8, (4, 4, 2)),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(pixel_format, shape):
    with pytest.raises(ImageError, match=rf"shape \({shape[0]}, ?.*{pixel_format.value}"):
        pixel_format.width_px(shape)
