"""Image and mask files at the network's size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError

from edge.cameras.folder import read_image
from edge.errors import ImageError
from training.data.images import ignored_cells, read_gt_mask, read_ignore_mask, read_input, to_uint8
from training.data.settings import DataSettings

Write = Callable[..., Path]
PLAIN = DataSettings()
COLOUR_BGR = (10, 120, 250)


def uniform(samples: tuple[int, ...] | int, dtype: str, size_px: tuple[int, int] = (30, 40)) -> np.ndarray:
    channels = () if isinstance(samples, int) else (len(samples),)
    return np.full((*size_px, *channels), samples, dtype)


@pytest.mark.parametrize("suffix", ["bmp", "jp2", "png", "ppm", "tiff", "webp", "jpg"])
def test_colour_files_become_rgb(write: Write, suffix: str) -> None:
    path = write(f"part.{suffix}", uniform(COLOUR_BGR, "uint8", (64, 80)))
    image, size_px = read_input(path, PLAIN, None)
    assert (image.shape, image.dtype, size_px) == ((256, 256, 3), np.uint8, (64, 80))
    # Lossy formats may miss by a little.
    assert np.abs(image.astype(int) - COLOUR_BGR[::-1]).max() <= (0 if suffix in {"bmp", "png", "ppm", "tiff"} else 4)


@pytest.mark.parametrize(
    ("samples", "dtype", "suffix", "white_level", "rgb"),
    [
        (77, "uint8", "png", None, (77, 77, 77)),
        ((10, 120, 250, 3), "uint8", "png", None, (250, 120, 10)),
        ((257, 514, 65535), "uint16", "png", None, (255, 2, 1)),
        ((0, 2048, 4095), "uint16", "tiff", 4095.0, (255, 127, 0)),
        ((1023, 1024, 65535), "uint16", "png", 1023.0, (255, 255, 255)),
        ((-5, 16384, 32767), "int16", "tiff", 32767.0, (255, 127, 0)),
        ((-1, 500, 2**31 - 1), "int32", "tiff", 1000.0, (255, 127, 0)),
        ((100, 50, 200), "uint8", "png", 200.0, (255, 63, 127)),
    ],
)
def test_integer_samples(
    write: Write,
    samples: tuple[int, ...] | int,
    dtype: str,
    suffix: str,
    white_level: float | None,
    rgb: tuple[int, ...],
) -> None:
    path = write(f"part.{suffix}", uniform(samples, dtype))
    image, _ = read_input(path, DataSettings(white_level=white_level), None)
    np.testing.assert_array_equal(image, uniform(rgb, "uint8", (256, 256)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floating_point_samples(write: Write, dtype: str) -> None:
    levels = np.arange(256, dtype=dtype).reshape(16, 16)
    saved = write("levels.tiff", levels / 255)
    np.testing.assert_array_equal(to_uint8(cv2.imread(str(saved), cv2.IMREAD_UNCHANGED), None), levels)
    bright = write("bright.tiff", np.dstack([levels - 300, levels + 1e6, np.full_like(levels, np.inf)]))
    image, _ = read_input(bright, DataSettings(white_level=255), None)
    np.testing.assert_array_equal(image, uniform((255, 255, 0), "uint8", (256, 256)))


@given(arrays.arrays(st.sampled_from(["uint8", "uint16", "int16", "int32", "float32"]), (4, 4)), st.integers(1, 127))
def test_a_white_level_clips_and_keeps_order(samples: np.ndarray, white_level: int) -> None:
    if np.isnan(samples).any():
        with pytest.raises(ImageError, match="NaN"):
            to_uint8(samples, white_level)
        return
    result = to_uint8(samples, white_level)
    assert (result[samples >= white_level] == 255).all()
    assert (result[samples <= 0] == 0).all()
    assert (np.diff(result.ravel()[np.argsort(samples, axis=None)].astype(int)) >= 0).all()
    inside = (samples > 0) & (samples < white_level)
    assert (np.abs(result[inside] - samples[inside].astype(float) * 255 / white_level) <= 1).all()


def test_16_bit_is_scaled_as_the_folder_camera_does(write: Write) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = write("every.png", every)
    image, _ = read_input(path, PLAIN, None)
    np.testing.assert_array_equal(image[..., 0], read_image(path))


def test_a_large_16_bit_image_is_converted_alike() -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (300, 400), dtype=np.uint16)
    in_rows = np.stack([to_uint8(row, 4095) for row in samples])
    np.testing.assert_array_equal(to_uint8(samples, 4095), in_rows)


@pytest.mark.parametrize(
    ("samples", "white_level", "problem"),
    [
        (uniform(3, "int16"), None, "unknown for samples of type int16"),
        (uniform(3, "uint8"), 4095.0, "uint8 samples never reach white_level 4095"),
        (np.array([[0.5, np.nan]], np.float32), None, "not a number"),
    ],
)
def test_samples_without_meaning_are_refused(
    write: Write, samples: np.ndarray, white_level: float | None, problem: str
) -> None:
    path = write("part.tiff", samples)
    with pytest.raises(ImageError, match=problem) as refused:
        read_input(path, DataSettings(white_level=white_level), None)
    assert "part.tiff" in refused.value.problem


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "part.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=r"part\.png"):
        read_input(path, PLAIN, None)


def test_region_of_interest(write: Write) -> None:
    samples = np.zeros((30, 40), np.uint8)
    samples[5:15, 20:40] = 200
    path = write("part.png", samples)
    image, size_px = read_input(path, DataSettings(roi_xywh=(20, 5, 20, 10)), None)
    assert (image == 200).all()
    assert size_px == (30, 40)
    with pytest.raises(ImageError, match=r"part.png.*does not lie inside the 40x30 image"):
        read_input(path, DataSettings(roi_xywh=(21, 5, 20, 10)), None)


@pytest.mark.parametrize(
    "values",
    [
        {"roi_xywh": (-1, 0, 5, 5)},
        {"roi_xywh": (0, 0, 0, 5)},
        {"held_out_share": 1.0},
        {"white_level": 0},
        {"root": "."},
    ],
)
def test_settings_without_meaning_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DataSettings.model_validate(values)


def test_the_images_must_be_of_the_ignore_masks_size(write: Write) -> None:
    settings = DataSettings(ignore_mask=write("ignored.png", uniform(0, "uint8", (40, 30))))
    mask = read_ignore_mask(settings)
    with pytest.raises(ImageError, match=r"part.png' is 40x30, ignore_mask .*ignored.png' is 30x40"):
        read_input(write("part.png"), settings, mask)
    read_input(write("turned.png", uniform(0, "uint8", (40, 30))), settings, mask)


def test_an_ignored_pixel_outside_the_region_of_interest_does_not_count(write: Write) -> None:
    samples = np.zeros((600, 700, 4), np.uint8)
    samples[..., 3] = 255
    samples[10, 10, 0] = 1
    samples[599, 699, 2] = 1
    mask = read_ignore_mask(DataSettings(ignore_mask=write("ignored.png", samples)))
    assert mask is not None
    np.testing.assert_array_equal(np.argwhere(ignored_cells(mask, (100, 100, 600, 500))), [[255, 255]])
    assert read_ignore_mask(PLAIN) is None


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)).flatmap(
        lambda size: st.tuples(st.just(size), st.tuples(st.integers(0, size[0] - 1), st.integers(0, size[1] - 1)))
    )
)
def test_a_cell_is_ignored_when_it_overlaps_an_ignored_pixel(case: tuple[tuple[int, int], tuple[int, int]]) -> None:
    size_px, pixel = case
    mask = np.zeros(size_px, np.uint8)
    mask[pixel] = 7
    # In units of 1/256 pixel: cell i is [i·length, (i+1)·length), pixel p is [256·p, 256·(p+1)).
    overlaps = [
        [index * length < 256 * (at + 1) and 256 * at < (index + 1) * length for index in range(256)]
        for length, at in zip(size_px, pixel, strict=True)
    ]
    np.testing.assert_array_equal(ignored_cells(mask, None), np.outer(*overlaps))


def test_masks_are_united_and_binarised(write: Write) -> None:
    first, second = np.zeros((30, 40), np.uint16), np.zeros((30, 40, 3), np.uint8)
    first[2, 3] = 1
    second[4, 5] = (0, 0, 9)
    union = read_gt_mask([write("a.png", first), write("b.png", second)], (30, 40), None)
    assert union.dtype == np.uint8
    assert {tuple(at) for at in np.argwhere(union)} == {(2, 3), (4, 5)}
    assert union.max() == 1
    cropped = read_gt_mask([write("a.png", first)], (30, 40), (3, 2, 10, 5))
    assert cropped.shape == (5, 10)
    np.testing.assert_array_equal(np.argwhere(cropped), [[0, 0]])
    with pytest.raises(ImageError, match=r"a.png' is 40x30, its image is 30x40"):
        read_gt_mask([write("a.png", first)], (40, 30), None)
