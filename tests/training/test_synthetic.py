"""Drawn defects: where the mask says, nowhere else, and the same again."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.synthetic import MAX_AREA_SHARE, with_defects


def parts(count: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (128, 96), interpolation=cv2.INTER_CUBIC) for image in coarse])


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_the_mask_is_where_pixels_differ(seed: int) -> None:
    images = parts(3)
    damaged, masks = with_defects(images, seed)
    assert (images == parts(3)).all()
    assert (masks == (damaged != images).any(axis=3)).all()
    assert masks.any(axis=(1, 2)).all()
    assert masks.mean(axis=(1, 2)).max() < 2 * MAX_AREA_SHARE


def test_an_image_gets_the_same_defect_in_any_company() -> None:
    images = parts(6)
    damaged, _ = with_defects(images, 7)
    fewer, _ = with_defects(images[:2], 7)
    assert (damaged[:2] == fewer).all()
    other, _ = with_defects(images, 8)
    assert (damaged != other).any()


def test_black_and_white_parts_get_defects_too() -> None:
    images = np.stack([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])
    assert with_defects(images, 0)[1].any(axis=(1, 2)).all()
