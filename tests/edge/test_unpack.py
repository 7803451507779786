import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ImageError
from edge.pixel_format import PixelFormat
from edge.unpack import unpack


def in_two_bytes(values, bits):
    return b"".join(int(value).to_bytes(2, "little") for value in values)


def as_bits(values, bits):
    """PFNC "p": bit after bit, the lowest of each sample first, the lowest of each byte first."""
    stream = [int(value) >> bit & 1 for value in values for bit in range(bits)]
    return bytes(sum(bit << place for place, bit in enumerate(stream[at : at + 8])) for at in range(0, len(stream), 8))


def in_triples(values, bits):
    """GigE Vision's "Packed": the first's high bits, the low bits of both, the second's high bits."""
    low = (1 << bits - 8) - 1
    packed = bytearray()
    for first, second in zip(values[0::2], values[1::2], strict=True):
        packed += bytes([first >> bits - 8, first & low | (second & low) << 4, second >> bits - 8])
    return bytes(packed)


PACKINGS = {
    "Mono10": (10, in_two_bytes),
    "Mono12": (12, in_two_bytes),
    "BayerGR12": (12, in_two_bytes),
    "Mono16": (16, in_two_bytes),
    "Mono10p": (10, as_bits),
    "Mono12p": (12, as_bits),
    "BayerRG12p": (12, as_bits),
    "Mono10Packed": (10, in_triples),
    "Mono12Packed": (12, in_triples),
    "BayerBG12Packed": (12, in_triples),
}


def apart(raw, before, behind, rng):
    """The same rows, as a view into memory in which they do not touch."""
    wide = rng.integers(0, 256, (raw.shape[0], before + raw.shape[1] + behind), dtype=np.uint8)
    view = wide[:, before : before + raw.shape[1]]
    view[...] = raw
    return view


@pytest.mark.parametrize("name", PACKINGS)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    margins=st.tuples(st.integers(0, 7), st.integers(0, 7)),
)
def test_the_top_bits_of_every_sample_come_back(name, seed, size, margins):
    bits, pack = PACKINGS[name]
    height_px, width_px = size[0], 4 * size[1]
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 1 << bits, (height_px, width_px))
    raw = np.array([list(pack(row.tolist(), bits)) for row in samples], np.uint8)
    assert raw.shape == PixelFormat(name).shape(width_px, height_px)
    seen = unpack(apart(raw, *margins, rng), PixelFormat(name))
    assert seen.dtype == np.uint8
    assert np.array_equal(seen, samples >> bits - 8)


@pytest.mark.parametrize("name", PACKINGS)
def test_a_tall_image_comes_back_too(name):
    bits, pack = PACKINGS[name]
    samples = np.random.default_rng(1).integers(0, 1 << bits, (517, 4))
    raw = np.array([list(pack(row.tolist(), bits)) for row in samples], np.uint8)
    assert np.array_equal(unpack(raw, PixelFormat(name)), samples >> bits - 8)


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.RGBA8, PixelFormat.YCBCR422_8])
def test_eight_bits_are_left_where_they_are(pixel_format):
    image = np.zeros(pixel_format.shape(6, 4), np.uint8)
    assert unpack(image, pixel_format) is image


@pytest.mark.parametrize(("name", "shape"), [("Mono12p", (4, 7)), ("Mono16", (4, 4, 2))])
def test_what_is_no_image_of_the_format_is_refused(name, shape):
    with pytest.raises(ImageError):
        unpack(np.zeros(shape, np.uint8), PixelFormat(name))
