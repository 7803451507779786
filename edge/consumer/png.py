"""Masks as PNG (ISO/IEC 15948) with nothing but zlib: grey, 1 or 8 bits per pixel, not interlaced."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from edge.consumer.bitmap import Bitmap, check_size
from edge.errors import MessageError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_BITS = [bytes(byte >> shift & 1 for shift in range(7, -1, -1)) for byte in range(256)]
_ANY_IS_ONE = bytes([0]) + bytes([1]) * 255


def encode_png(bitmap: Bitmap) -> bytes:
    """1-bit grey PNG; defects are white."""
    height, width = bitmap.size
    lines = (b"\0" + _packed(row) for row in bitmap.rows)
    header = _HEADER.pack(width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b""))
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def decode_png(data: bytes) -> Bitmap:
    """The mask in a PNG: 1 where it is not black.

    Raises:
        MessageError: damaged, cut short, or another kind of PNG.
    """
    width = height = depth = 0
    packed = b""
    for kind, content in _chunks(data):
        if kind == b"IHDR" and len(content) == _HEADER.size:
            width, height, depth, *rest = _HEADER.unpack(content)
            if depth not in (1, 8) or rest != [0, 0, 0, 0]:
                raise MessageError(f"a mask is a grey PNG of 1 or 8 bits, not interlaced; this has {(depth, *rest)}")
        elif kind == b"IDAT":
            packed += content
        elif kind == b"IEND":
            break
    check_size((height, width))
    line_bytes = (width * depth + 7) // 8
    lines = _unfiltered(_inflated(packed, (line_bytes + 1) * height), line_bytes)
    if depth == 8:
        return Bitmap((height, width), tuple(bytes(line).translate(_ANY_IS_ONE) for line in lines))
    return Bitmap((height, width), tuple(b"".join(_BITS[byte] for byte in line)[:width] for line in lines))


def _packed(row: bytes) -> bytes:
    digits = row.ljust(-(-len(row) // 8) * 8, b"\0").translate(b"01" + bytes(254))
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise MessageError(f"{len(data)} bytes are not a PNG")
    start = len(_SIGNATURE)
    while start < len(data):
        kind, end = data[start + 4 : start + 8], start + 8 + int.from_bytes(data[start : start + 4], "big")
        content, checksum = data[start + 8 : end], data[end : end + 4]
        if len(checksum) < 4 or zlib.crc32(kind + content) != int.from_bytes(checksum, "big"):
            raise MessageError("a PNG that is damaged or cut short")
        yield kind, content
        start = end + 4


def _inflated(packed: bytes, size_bytes: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(packed, size_bytes)  # never more than the header announces
    except zlib.error as error:
        raise MessageError(f"a PNG whose content is damaged ({error})") from error
    if len(inflated) != size_bytes:
        raise MessageError(f"a PNG with {len(inflated)} of {size_bytes} bytes of pixels")
    return inflated


def _unfiltered(inflated: bytes, line_bytes: int) -> Iterator[bytearray]:
    """Lines without their filters (ISO/IEC 15948, 9.2); with so few bits, a pixel's left neighbour is one byte away."""
    above = bytearray(line_bytes)
    for start in range(0, len(inflated), line_bytes + 1):
        line = bytearray(inflated[start + 1 : start + 1 + line_bytes])
        match inflated[start]:
            case 0:
                pass
            case 1:
                for x in range(1, line_bytes):
                    line[x] = (line[x] + line[x - 1]) & 255
            case 2:
                line = bytearray((low + high) & 255 for low, high in zip(line, above, strict=True))
            case 3:
                for x in range(line_bytes):
                    line[x] = (line[x] + ((line[x - 1] if x else 0) + above[x]) // 2) & 255
            case 4:
                for x in range(line_bytes):
                    line[x] = (line[x] + _paeth(line[x - 1], above[x], above[x - 1]) if x else line[x] + above[x]) & 255
            case unknown:
                raise MessageError(f"a PNG with filter {unknown}, which there is not")
        yield line
        above = line


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda byte: abs(guess - byte))
