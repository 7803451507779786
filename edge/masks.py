"""Defect masks as bytes: COCO run-length encoding and 1-bit PNG. Pure functions.

COCO RLE: runs of 0 and 1 in column-major order, starting with 0; from the fourth run on, each count is stored as the
difference to the count two before; 5 bits per character, bit 5 = more follows, offset 48 (pycocotools `rleToString`).
"""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import ImageError
from edge.frame import Image

_MAX_SIDE_PX = 1 << 14


def encode_rle(mask: Image) -> str:
    """COCO compressed counts of a mask.

    Args:
        mask: uint8 (H, W); non-zero is defect.
    """
    flat = np.not_equal(mask, 0).ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size])))
    if flat.size and flat[0]:
        counts = np.concatenate(([0], counts))
    return _counts_to_text(counts.tolist())


def decode_rle(text: str, size_hw: tuple[int, int]) -> Image:
    """Mask uint8 (H, W) of 0 and 1 from COCO compressed counts.

    Raises:
        ImageError: not such a string, or its runs do not add up to H·W.
    """
    height, width = size_hw
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX):
        raise ImageError(f"mask size {size_hw} is out of range", f"sides must be 1 to {_MAX_SIDE_PX} px")
    counts = _text_to_counts(text)
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ImageError(f"mask counts cover {sum(counts)} of {height * width} pixels", "check the sender's encoder")
    values = np.arange(len(counts), dtype=np.uint8) & 1
    return np.repeat(values, counts).reshape((height, width), order="F")


def encode_png(mask: Image) -> bytes:
    """1-bit grey PNG; non-zero becomes white."""
    done, encoded = cv2.imencode(".png", np.where(mask, 255, 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    if not done:
        raise ImageError(f"a mask of shape {mask.shape} cannot be encoded as PNG")
    return encoded.tobytes()


def decode_png(data: bytes) -> Image:
    """Mask uint8 (H, W) of 0 and 1.

    Raises:
        ImageError: not an image.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if decoded is None:
        raise ImageError(f"{len(data)} bytes are not a PNG mask", "check that the whole payload was received")
    return (decoded > 0).astype(np.uint8)


def _counts_to_text(counts: list[int]) -> str:
    characters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            low = value & 0x1F
            value >>= 5
            more = value != (-1 if low & 0x10 else 0)
            characters.append(chr(48 + (low | (0x20 if more else 0))))
    return "".join(characters)


def _text_to_counts(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise ImageError(
                f"{character!r} in mask counts is not COCO run-length encoding", "check the sender's encoder"
            )
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ImageError("mask counts end in the middle of a run", "check that the whole message was received")
    return counts
