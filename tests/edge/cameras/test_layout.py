"""How images lie in GenTL buffers, and whether they reach the ring as they were."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.cameras.layout import ImageLayout, image_in
from edge.cameras.ring import RingGeometry, create_ring
from edge.frame import Image
from edge.pixel_format import PixelFormat

WIDTH_PX, HEIGHT_PX, OFFSET_BYTES = 24, 7, 5


def layout_of(pixel_format: PixelFormat) -> ImageLayout:
    return ImageLayout(width_px=WIDTH_PX, height_px=HEIGHT_PX, pixel_format=pixel_format, exposure_us=None)


def buffer_with(rows: Image, padding_bytes: int) -> Any:
    """A GenTL buffer that begins with something else and whose rows end with something else."""
    padded = np.pad(rows.reshape(len(rows), -1), ((0, 0), (0, padding_bytes)), constant_values=0xEE)
    return SimpleNamespace(
        height=len(rows),
        image_offset=OFFSET_BYTES,
        padding_x=padding_bytes,
        raw_buffer=bytes(OFFSET_BYTES) + padded.tobytes() + b"behind",
        is_complete=lambda: True,
    )


@pytest.mark.parametrize("padding_bytes", [0, 3])
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_an_image_reaches_the_ring_as_it_was(pixel_format: PixelFormat, padding_bytes: int) -> None:
    layout = layout_of(pixel_format)
    sent = np.random.default_rng(3).integers(0, 256, layout.shape, dtype=np.uint8)
    image, is_complete = image_in(buffer_with(sent, padding_bytes), layout)
    ring, descriptor = create_ring(RingGeometry(1, math.prod(layout.shape)))
    os.close(descriptor)
    ring.image(0, image.shape)[...] = image
    assert is_complete
    assert np.array_equal(ring.image(0, layout.shape), sent)
    assert pixel_format.width_px(image.shape) == WIDTH_PX


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO12P, PixelFormat.BGR8, PixelFormat.YCBCR422_8])
def test_an_image_with_fewer_lines_keeps_its_width(pixel_format: PixelFormat) -> None:
    layout = layout_of(pixel_format)
    sent = np.random.default_rng(4).integers(0, 256, (2, *layout.shape[1:]), dtype=np.uint8)
    image, _ = image_in(buffer_with(sent, 1), layout)
    assert np.array_equal(image, sent)
