"""Reading the good parts: what counts as an image, in which order, what a limit leaves out, what is said."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.images import read_images
from edge.errors import ImageError
from edge.manifest import Preprocessing
from training.image_sets import images_sha256

PLAIN = Preprocessing(input_size_px=(256, 256))


@pytest.fixture
def levels_dir(tmp_path: Path) -> Path:
    """Twenty images of one grey level each, ten times their place in the order of names."""
    for index in range(20):
        depth = 257 if index % 2 else 1
        image = np.full((4, 6), 10 * index * depth, np.uint16 if index % 2 else np.uint8)
        cv2.imwrite(str(tmp_path / f"{index:02}.{'TIF' if index % 3 else 'png'}"), image)
    (tmp_path / "Thumbs.db").write_bytes(b"")
    (tmp_path / "._00.png").write_bytes(b"left by another system")
    return tmp_path


def levels(images: np.ndarray) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


def test_every_image_in_name_order(levels_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = read_images(levels_dir, PLAIN, None)
    assert (images.shape, images.dtype) == ((20, 256, 256, 3), np.uint8)
    assert levels(images) == [10 * index for index in range(20)]
    assert not caplog.records


def test_a_limit_takes_images_spread_evenly(levels_dir: Path) -> None:
    assert levels(read_images(levels_dir, PLAIN, 10)) == list(range(0, 200, 20))
    assert len(read_images(levels_dir, PLAIN, 100)) == 20


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((4, 6, 3), (1, 2, 3), np.uint8))
    assert read_images(tmp_path, PLAIN, None)[0, 0, 0].tolist() == [3, 2, 1]


def test_the_bundles_white_level_and_region_are_used(tmp_path: Path) -> None:
    for index in range(8):
        image = np.zeros((40, 60), np.uint16)
        image[10:, 20:] = 2048
        image[10, 20] = 4095
        cv2.imwrite(str(tmp_path / f"{index}.tif"), image)
    settings = Preprocessing(input_size_px=(256, 256), white_level=4095, roi_xywh=(20, 10, 40, 30))
    (image, *_) = read_images(tmp_path, settings, None)
    assert image[0, 0].tolist() == [255] * 3
    assert image.min() == 2048 * 255 // 4095


def test_a_products_good_parts_are_those_to_train_on(product: Path) -> None:
    images = read_images(product, PLAIN, None)
    assert len(images) == 8
    assert images_sha256(images) == images_sha256(read_images(product / "train" / "good", PLAIN, None))


def test_of_a_visa_product_the_split_says_which(tmp_path: Path) -> None:
    rows = []
    for index in range(12):
        name = f"washer/Data/Images/Normal/{index:02}.JPG"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((8, 8), 20 * index, np.uint8))
        rows.append(("washer", "train" if index % 4 else "test", "normal", name, ""))
    (tmp_path / "split_csv").mkdir()
    with (tmp_path / "split_csv" / "1cls.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("object", "split", "label", "image", "mask"), *rows])
    assert levels(read_images(tmp_path / "washer", PLAIN, None)) == [20 * index for index in range(12) if index % 4]


def test_images_of_other_sizes_are_taken_and_said(levels_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, size in (("00.png", (9, 5)), ("03.png", (9, 5)), ("06.png", (300, 300))):
        cv2.imwrite(str(levels_dir / name), np.full(size[::-1], 7, np.uint8))
    assert levels(read_images(levels_dir, PLAIN, None))[:7] == [7, 10, 20, 7, 40, 50, 7]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"3 of 20 images in '{levels_dir}' are not 6x4 but 9x5, 300x300: resized like the others"
    )


def test_an_image_that_does_not_hold_the_region_is_named(levels_dir: Path) -> None:
    settings = Preprocessing(input_size_px=(256, 256), roi_xywh=(0, 0, 7, 4))
    with pytest.raises(ImageError, match=r"00\.png': region of interest .* the 6x4 image"):
        read_images(levels_dir, settings, None)


def test_too_few_images_are_refused(levels_dir: Path) -> None:
    for index in range(13):
        next(levels_dir.glob(f"{index:02}.*")).unlink()
    with pytest.raises(ImageError, match="holds 7 images of good parts, 8 are needed at least"):
        read_images(levels_dir, PLAIN, None)


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_a_directory_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=f"/{name}' (is no product|cannot be read)"):
        read_images(tmp_path / name, PLAIN, None)
