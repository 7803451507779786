"""A mask's pixels, and COCO's compressed run-length encoding without NumPy.

COCO RLE: runs of 0 and 1 in column-major order, starting with 0; from the fourth run on, each count is stored as the
difference to the count two before; 5 bits per character, bit 5 = more follows, offset 48 (pycocotools `rleFrString`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.errors import MessageError

# Larger than any network's output; a short text may claim any size.
MAX_PIXELS = 1 << 24
_MAX_SHIFT = 30


@dataclass(frozen=True, slots=True)
class Bitmap:
    """Pixels of a mask.

    Attributes:
        size: height and width.
        rows: from the top, one byte per pixel: 1 is defect, 0 is not.
    """

    size: tuple[int, int]
    rows: tuple[bytes, ...]

    @property
    def area_px(self) -> int:
        """Defective pixels."""
        return sum(row.count(1) for row in self.rows)


def check_size(size: tuple[int, int]) -> None:
    """Refuse what no mask has.

    Raises:
        MessageError: a side is not positive, or there are more than MAX_PIXELS.
    """
    height, width = size
    if height <= 0 or width <= 0 or height * width > MAX_PIXELS:
        raise MessageError(f"a mask of {height} by {width} pixels")


def decode_rle(text: str, size: tuple[int, int]) -> Bitmap:
    """The mask in COCO compressed counts.

    Args:
        text: the counts.
        size: height and width.

    Raises:
        MessageError: not such a text, or its runs do not add up to the size.
    """
    check_size(size)
    height, width = size
    columns = bytearray(height * width)
    start = 0
    for index, count in enumerate(_counts(text)):
        if count < 0 or start + count > len(columns):
            raise MessageError(f"mask counts do not cover {height} by {width} pixels")
        if index % 2:
            columns[start : start + count] = b"\x01" * count
        start += count
    if start != len(columns):
        raise MessageError(f"mask counts cover {start} of {len(columns)} pixels")
    return Bitmap(size, tuple(bytes(columns[row::height]) for row in range(height)))


def _counts(text: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > _MAX_SHIFT:
            raise MessageError(f"{character!a} in mask counts is not COCO run-length encoding")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise MessageError("mask counts end in the middle of a run")
    return counts
