"""How the bytes of a raw image are to be read: GenICam's pixel formats.

Every sample counts with its top 8 bits only, `v >> (bits - 8)`, taken before any demosaicing or colour conversion, on
the host and on the GPU alike.

Source: EMVA/AIA GenICam Pixel Format Naming Convention (PFNC) 2.4; the "Packed" formats are GigE Vision's.
"""

from __future__ import annotations

import math
import re
from enum import Enum, IntEnum

from edge.errors import ImageError


class Storage(IntEnum):
    """How samples lie in a row. 10- and 12-bit samples in 16 bits are little endian, in the lower bits.

    `P_*` is one stream of bits, the least significant first. `GVSP_*` puts two samples into three bytes: the first's
    top 8 bits, the lower bits of both, the second's top 8 bits.
    """

    BITS_8 = 0
    BITS_10 = 1
    BITS_12 = 2
    BITS_16 = 3
    P_10 = 4
    P_12 = 5
    GVSP_10 = 6
    GVSP_12 = 7


class Colour(IntEnum):
    """What the samples stand for. A Bayer pattern is named after the first two pixels of the first row.

    YCBYCR: Y0 Cb Y1 Cr for two pixels, full-range BT.601 as in JPEG.
    """

    MONO = 0
    BAYER_RG = 1
    BAYER_GR = 2
    BAYER_GB = 3
    BAYER_BG = 4
    RGB = 5
    BGR = 6
    RGBA = 7
    YCBYCR = 8


# PFNC names say both: colour, then storage.
_NAME = re.compile(r"(Mono|Bayer..|RGBa?|BGR|YCbCr422)_?(.+)")
_COLOURS = {
    "Mono": Colour.MONO,
    "BayerRG": Colour.BAYER_RG,
    "BayerGR": Colour.BAYER_GR,
    "BayerGB": Colour.BAYER_GB,
    "BayerBG": Colour.BAYER_BG,
    "RGB": Colour.RGB,
    "BGR": Colour.BGR,
    "RGBa": Colour.RGBA,
    "YCbCr422": Colour.YCBYCR,
}
_STORAGES = {
    "8": Storage.BITS_8,
    "10": Storage.BITS_10,
    "12": Storage.BITS_12,
    "16": Storage.BITS_16,
    "10p": Storage.P_10,
    "12p": Storage.P_12,
    "10Packed": Storage.GVSP_10,
    "12Packed": Storage.GVSP_12,
}

_CHANNELS = {Colour.RGB: 3, Colour.BGR: 3, Colour.RGBA: 4, Colour.YCBYCR: 2}

# The fewest samples that fill whole bytes, and how many bytes those are.
_GROUPS = {
    Storage.BITS_8: (1, 1),
    Storage.BITS_10: (1, 2),
    Storage.BITS_12: (1, 2),
    Storage.BITS_16: (1, 2),
    Storage.P_10: (4, 5),
    Storage.P_12: (2, 3),
    Storage.GVSP_10: (2, 3),
    Storage.GVSP_12: (2, 3),
}


class PixelFormat(str, Enum):
    """Pixel formats by their GenICam PFNC names."""

    MONO8 = "Mono8"
    MONO10 = "Mono10"
    MONO10P = "Mono10p"
    MONO10_PACKED = "Mono10Packed"
    MONO12 = "Mono12"
    MONO12P = "Mono12p"
    MONO12_PACKED = "Mono12Packed"
    MONO16 = "Mono16"
    BAYER_RG8 = "BayerRG8"
    BAYER_RG12 = "BayerRG12"
    BAYER_RG12P = "BayerRG12p"
    BAYER_RG12_PACKED = "BayerRG12Packed"
    BAYER_GR8 = "BayerGR8"
    BAYER_GR12 = "BayerGR12"
    BAYER_GR12P = "BayerGR12p"
    BAYER_GR12_PACKED = "BayerGR12Packed"
    BAYER_GB8 = "BayerGB8"
    BAYER_GB12 = "BayerGB12"
    BAYER_GB12P = "BayerGB12p"
    BAYER_GB12_PACKED = "BayerGB12Packed"
    BAYER_BG8 = "BayerBG8"
    BAYER_BG12 = "BayerBG12"
    BAYER_BG12P = "BayerBG12p"
    BAYER_BG12_PACKED = "BayerBG12Packed"
    RGB8 = "RGB8"
    BGR8 = "BGR8"
    RGBA8 = "RGBa8"
    YCBCR422_8 = "YCbCr422_8"

    @property
    def storage(self) -> Storage:
        """How its samples lie in a row."""
        return _STORAGES[_NAME.sub(r"\2", self.value)]

    @property
    def colour(self) -> Colour:
        """What its samples stand for."""
        return _COLOURS[_NAME.sub(r"\1", self.value)]

    @property
    def channels(self) -> int:
        """Samples per pixel: 1, 3 or 4; 2 for YCbCr422_8."""
        return _CHANNELS.get(self.colour, 1)

    def row_bytes(self, width_px: int) -> int:
        """Bytes of a row without padding.

        Raises:
            ImageError: a row of this width does not fill whole bytes, or breaks a pair of YCbCr422_8.
        """
        step_px, step_bytes = self._step
        if width_px < 1 or width_px % step_px:
            raise ImageError(
                f"a width of {width_px} pixels is not possible in {self.value}",
                f"set the width to a multiple of {step_px}, or choose another pixel format",
            )
        return width_px // step_px * step_bytes

    def shape(self, width_px: int, height_px: int) -> tuple[int, ...]:
        """Shape of the raw uint8 array: (H, W) or (H, W, C) for 8-bit samples, else and for YCbCr422_8 (H, row_bytes).

        Raises:
            ImageError: as `row_bytes`.
        """
        row_bytes = self.row_bytes(width_px)
        return (height_px, width_px, self.channels) if self.channels > 2 else (height_px, row_bytes)

    def width_px(self, shape: tuple[int, ...]) -> int:
        """Width of an image whose raw array has this shape; it may lack all its rows.

        Raises:
            ImageError: no image of this format has this shape.
        """
        step_px, step_bytes = self._step
        channel_axis = (self.channels,) if self.channels > 2 else ()
        row_bytes = math.prod(shape[1:])
        if len(shape) < 2 or shape[2:] != channel_axis or row_bytes < 1 or row_bytes % step_bytes:
            raise ImageError(
                f"an array of shape {shape} is not an image in {self.value}",
                "give the samples as the camera delivered them, and their pixel format",
            )
        return row_bytes // step_bytes * step_px

    @property
    def _step(self) -> tuple[int, int]:
        """The fewest pixels that a row may have, of whose multiples it consists, and their bytes."""
        if self.colour is Colour.YCBYCR:
            return 2, 4
        step_px, step_bytes = _GROUPS[self.storage]
        return step_px, step_bytes * self.channels
