"""How images lie in GenTL buffers, and whether they reach the ring as they were."""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from genicam import gentl

from edge.cameras.layout import ImageLayout, image_in
from edge.cameras.marks import write_marks
from edge.cameras.ring import RingGeometry, create_ring
from edge.frame import Image
from edge.pixel_format import PixelFormat

WIDTH_PX, HEIGHT_PX, OFFSET_BYTES = 24, 7, 5


def layout_of(pixel_format: PixelFormat) -> ImageLayout:
    return ImageLayout(width_px=WIDTH_PX, height_px=HEIGHT_PX, pixel_format=pixel_format, exposure_us=None)


def buffer_with(rows: Image, padding_bytes: int, offset_bytes: int = OFFSET_BYTES, **changes: Any) -> Any:
    """A GenTL buffer that begins with something else and whose rows end with something else."""
    padded = np.pad(rows.reshape(len(rows), -1), ((0, 0), (0, padding_bytes)), constant_values=0xEE)
    memory = np.frombuffer(bytes(offset_bytes) + padded.tobytes() + b"behind", np.uint8).copy()
    facts = {
        "memory": memory,
        "size": memory.size,
        "get_info_ptr": lambda _command: memory.ctypes.data,
        "width": WIDTH_PX,
        "height": len(rows),
        "image_offset": offset_bytes,
        "padding_x": padding_bytes,
        "size_filled": offset_bytes + padded.size,
        "is_complete": lambda: True,
        "has_received_larger_payload": lambda: False,
    }
    return SimpleNamespace(**(facts | changes))


@pytest.mark.parametrize("padding_bytes", [0, 3])
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_an_image_reaches_the_ring_as_it_was(pixel_format: PixelFormat, padding_bytes: int) -> None:
    layout = layout_of(pixel_format)
    sent = np.random.default_rng(3).integers(0, 256, layout.shape, dtype=np.uint8)
    image, fault = image_in(buffer_with(sent, padding_bytes), layout)
    ring, descriptor = create_ring(RingGeometry(1, math.prod(layout.shape)))
    os.close(descriptor)
    ring.image(0, image.shape)[...] = image
    assert fault == ""
    assert np.array_equal(ring.image(0, layout.shape), sent)
    assert pixel_format.width_px(image.shape) == WIDTH_PX


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO12P, PixelFormat.BGR8, PixelFormat.YCBCR422_8])
def test_an_image_with_fewer_lines_keeps_its_width(pixel_format: PixelFormat) -> None:
    layout = layout_of(pixel_format)
    sent = np.random.default_rng(4).integers(0, 256, (2, *layout.shape[1:]), dtype=np.uint8)
    image, _ = image_in(buffer_with(sent, 1), layout)
    assert np.array_equal(image, sent)


MONO = layout_of(PixelFormat.MONO8)
SENT = np.arange(MONO.height_px * MONO.width_px, dtype=np.uint8).reshape(MONO.shape)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"is_complete": lambda: False}, "incomplete_frame"),
        ({"size_filled": SENT.size - 1}, "wrong_payload_size"),
        ({"has_received_larger_payload": lambda: True}, "wrong_payload_size"),
        ({"width": WIDTH_PX - 1}, "wrong_payload_size"),
        ({"height": HEIGHT_PX + 1}, "wrong_payload_size"),
        ({"padding_x": 5}, "wrong_payload_size"),
        ({}, ""),
    ],
)
def test_what_a_buffer_tells_is_believed_only_if_it_fits(changes: dict[str, Any], fault: str) -> None:
    image, found = image_in(buffer_with(SENT, 0, 0, **changes), MONO)
    assert (found, image.shape) == (fault, MONO.shape)
    assert np.array_equal(image, SENT)


def test_a_producer_that_does_not_tell_sizes_is_trusted() -> None:
    class Silent(SimpleNamespace):
        @property
        def size_filled(self) -> int:
            raise gentl.NotImplementedException

    buffer = buffer_with(SENT, 0, 0)
    del buffer.size_filled
    assert image_in(Silent(**vars(buffer)), MONO)[1] == ""


def test_a_part_that_was_not_written_is_seen() -> None:
    layout = ImageLayout(width_px=1500, height_px=8, pixel_format=PixelFormat.MONO8, exposure_us=None)
    buffer = buffer_with(np.zeros(layout.shape, np.uint8), 0, 0, width=1500)
    memory = buffer.memory
    write_marks(memory)
    memory[:3000] = memory[4500:] = 7
    assert image_in(buffer, layout)[1] == "torn_frame"
    memory[3000:4500] = 7
    assert image_in(buffer, layout)[1] == ""
