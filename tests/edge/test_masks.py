import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edge.errors import ImageError
from edge.masks import decode_png, decode_rle, encode_png, encode_rle

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


@given(masks)
def test_rle_is_what_pycocotools_writes_and_reads(mask):
    text = encode_rle(mask)
    assert text == coco.encode(np.asfortranarray(mask))["counts"].decode()
    assert np.array_equal(decode_rle(text, mask.shape), mask)


def test_rle_of_long_runs():
    mask = np.zeros((256, 256), np.uint8)
    mask[40:200, 90:93] = 1
    text = encode_rle(mask)
    assert len(text) < 60
    assert np.array_equal(coco.decode({"counts": text, "size": [256, 256]}), mask)


@given(masks)
def test_png_round_trip(mask):
    assert np.array_equal(decode_png(encode_png(mask)), mask)


def test_png_has_one_bit_per_pixel():
    noise = np.random.default_rng(0).integers(0, 2, (256, 256), dtype=np.uint8)
    assert len(encode_png(noise)) < 256 * 256 / 8 * 1.1


@given(st.text(max_size=30), st.tuples(st.integers(-1, 50), st.integers(-1, 50)))
def test_any_text_decodes_or_is_refused(text, size_hw):
    try:
        mask = decode_rle(text, size_hw)
    except ImageError:
        return
    assert mask.shape == size_hw


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b"nothing"])
def test_what_is_no_png_is_refused(data):
    with pytest.raises(ImageError, match="not a PNG mask"):
        decode_png(data)
