"""Masks decoded with the standard library are those that pycocotools, OpenCV and the station read."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edge import masks as edge_masks
from edge.consumer import Bitmap, Mask, MessageError, decode_png, decode_rle, encode_png

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))
TO_IMAGE = (2.5, 0.0, 0.75, 0.0, 2.5, 0.75)


def pixels(bitmap: Bitmap):
    array = np.frombuffer(b"".join(bitmap.rows), np.uint8)
    return array.reshape(bitmap.size)


@given(masks)
def test_run_lengths_of_pycocotools_and_of_the_station(mask):
    for text in (coco.encode(np.asfortranarray(mask))["counts"].decode(), edge_masks.encode_rle(mask)):
        bitmap = decode_rle(text, mask.shape)
        assert np.array_equal(pixels(bitmap), mask)
        assert bitmap.area_px == mask.sum()


def test_long_runs():
    mask = np.zeros((700, 900), np.uint8)
    mask[40:650, 90:93] = 1
    assert np.array_equal(pixels(decode_rle(edge_masks.encode_rle(mask), mask.shape)), mask)


@given(st.text(max_size=30), st.tuples(st.integers(-1, 50), st.integers(-1, 50)))
@example("5N1", (2, 2))  # runs of 5, -2 and 1
def test_any_text_decodes_as_the_station_does_or_is_refused(text, size):
    try:
        bitmap = decode_rle(text, size)
    except MessageError:
        bitmap = None
    try:
        expected = edge_masks.decode_rle(text, size)
    except edge_masks.ImageError:
        assert bitmap is None
    else:
        assert bitmap is not None
        assert np.array_equal(pixels(bitmap), expected)


def test_a_short_text_cannot_claim_all_memory():
    with pytest.raises(MessageError, match="1048576 by 1048576"):
        decode_rle("0", (1 << 20, 1 << 20))


@given(masks)
def test_png_of_the_station(mask):
    assert np.array_equal(pixels(decode_png(edge_masks.encode_png(mask))), mask)


@given(masks)
def test_png_written_here_is_read_by_opencv(mask):
    bitmap = Bitmap(mask.shape, tuple(row.tobytes() for row in mask))
    encoded = encode_png(bitmap)
    assert np.array_equal(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE), mask * 255)
    assert decode_png(encoded) == bitmap


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, lines, colour=0, compress=zlib.compress):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(lines)) + chunk(b"IEND", b"")


@given(st.integers(1, 9), st.integers(1, 6), st.sampled_from([1, 8]), st.data())
def test_every_filter_as_opencv_undoes_it(width, height, depth, data):
    line_bytes = (width * depth + 7) // 8
    lines = b"".join(
        bytes([data.draw(st.integers(0, 4))]) + data.draw(st.binary(min_size=line_bytes, max_size=line_bytes))
        for _ in range(height)
    )
    encoded = png(width, height, depth, lines)
    expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(pixels(decode_png(encoded)), expected > 0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes are not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "0 by 0 pixels"),
        (png(2, 1, 8, b"\0\0\0")[:-3], "cut short"),
        (png(2, 1, 8, b"\0\0"), "2 of 3 bytes"),
        (png(2, 1, 8, b"\0\0\0", compress=bytes), "content is damaged"),
        (png(2, 1, 8, b"\7\0\0"), "filter 7"),
        (png(2, 1, 8, b"\0\0\0\0\0\0\0", colour=2), "grey PNG"),
        (png(2, 1, 16, b"\0\0\0\0\0"), "grey PNG"),
        (png(1 << 20, 1 << 20, 1, b""), "1048576 by 1048576"),
        (png(8, 1, 8, bytes(10**7))[:60], "cut short"),
    ],
)
def test_another_png_is_refused(data, problem):
    with pytest.raises(MessageError, match=problem):
        decode_png(data)


def test_a_bomb_is_inflated_no_further_than_announced():
    assert decode_png(png(8, 1, 8, bytes(10**7))).rows == (bytes(8),)


@given(st.binary(max_size=80) | st.tuples(st.integers(0, 80), st.binary(max_size=3)))
@example(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"") + chunk(b"IDAT", b""))
def test_no_bytes_raise_anything_else(data):
    if isinstance(data, tuple):
        good = png(3, 2, 8, bytes(8))
        data = good[: data[0]] + data[1] + good[data[0] + 1 :]
    with suppress(MessageError):
        decode_png(data)


def test_a_mask_takes_what_came_on_its_topic():
    pixel = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)
    text = edge_masks.encode_rle(pixel)
    inline = Mask("coco_rle", (2, 3), TO_IMAGE, text, None)
    assert np.array_equal(pixels(inline.bitmap()), pixel)
    elsewhere = Mask("coco_rle", (2, 3), TO_IMAGE, None, "mask/1")
    assert elsewhere.bitmap(text.encode()) == inline.bitmap()
    picture = Mask("png", (2, 3), TO_IMAGE, None, "mask/1")
    assert picture.bitmap(edge_masks.encode_png(pixel)) == inline.bitmap()
    with pytest.raises(MessageError, match="came on mask/1"):
        picture.bitmap()
    with pytest.raises(MessageError, match=r"a PNG of \(1, 1\) pixels for a mask of \(2, 3\)"):
        picture.bitmap(edge_masks.encode_png(np.ones((1, 1), np.uint8)))
    with pytest.raises(MessageError):
        elsewhere.bitmap(b"\xff\xff")
