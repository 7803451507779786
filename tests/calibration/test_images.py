"""Reading the good parts: what counts as an image, in which order, and what a limit leaves out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.images import read_images
from edge.errors import ImageError
from edge.manifest import Preprocessing

SMALL = Preprocessing(input_size_px=(4, 6))


@pytest.fixture
def levels_dir(tmp_path: Path) -> Path:
    """Twenty images of one grey level each, ten times their place in the order of names."""
    for index in range(20):
        depth = 257 if index % 2 else 1
        image = np.full((4, 6), 10 * index * depth, np.uint16 if index % 2 else np.uint8)
        cv2.imwrite(str(tmp_path / f"{index:02}.{'TIF' if index % 3 else 'png'}"), image)
    (tmp_path / "Thumbs.db").write_bytes(b"")
    return tmp_path


def test_every_image_in_name_order(levels_dir: Path) -> None:
    images = read_images(levels_dir, SMALL, None)
    assert images.shape == (20, 4, 6, 3)
    assert [int(image[0, 0, 0]) for image in images] == [10 * index for index in range(20)]


def test_a_limit_takes_images_spread_evenly(levels_dir: Path) -> None:
    assert [int(image[0, 0, 0]) for image in read_images(levels_dir, SMALL, 10)] == list(range(0, 200, 20))
    assert len(read_images(levels_dir, SMALL, 100)) == 20


def test_colours_come_as_rgb(tmp_path: Path) -> None:
    for index in range(8):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((4, 6, 3), (1, 2, 3), np.uint8))
    assert read_images(tmp_path, SMALL, None)[0, 0, 0].tolist() == [3, 2, 1]


def test_an_image_of_the_wrong_size_is_named(levels_dir: Path) -> None:
    settings = Preprocessing(input_size_px=(4, 6), roi_xywh=(0, 0, 7, 4))
    with pytest.raises(ImageError, match=r"00\.png': region of interest .* the 6x4 image"):
        read_images(levels_dir, settings, None)
