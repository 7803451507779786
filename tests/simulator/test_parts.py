"""The rendered product: deterministic, honest masks, disjoint seeds."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from edge.pixel_format import PixelFormat
from edge.preprocess import to_rgb
from simulator.defects import DefectKind
from simulator.parts import (
    HELD_OUT_SEEDS,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VALIDATION_SEEDS,
    render_part,
    to_bayer_rg8,
)


def test_seed_ranges_are_disjoint() -> None:
    ranges = (TRAIN_SEEDS, HELD_OUT_SEEDS, VALIDATION_SEEDS, TEST_SEEDS)
    for first, second in itertools.combinations(ranges, 2):
        assert not range(max(first.start, second.start), min(first.stop, second.stop))


def test_same_seed_same_part_other_seed_other_part() -> None:
    first, again, other = (render_part(seed, DefectKind.STAIN) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image_rgb, again.image_rgb)
    np.testing.assert_array_equal(first.gt_mask, again.gt_mask)
    assert np.mean(first.image_rgb != other.image_rgb) > 0.5


def test_good_part_has_an_empty_mask() -> None:
    part = render_part(5, None)
    assert part.image_rgb.shape == (540, 540, 3)
    assert part.image_rgb.dtype == np.uint8
    assert not part.gt_mask.any()


@pytest.mark.parametrize("kind", DefectKind)
@pytest.mark.parametrize("seed", range(20))
def test_the_defect_changes_pixels_under_its_mask_and_nowhere_else(kind: DefectKind, seed: int) -> None:
    good, defective = render_part(seed, None), render_part(seed, kind)
    assert set(np.unique(defective.gt_mask)) == {0, 1}
    change = np.abs(good.image_rgb.astype(int) - defective.image_rgb).max(axis=2)
    near = cv2.dilate(defective.gt_mask, np.ones((9, 9), np.uint8)) > 0
    assert change[~near].max() <= 2
    # Visible: somewhere the change is far above the sensor's noise.
    smooth = cv2.blur(change.astype(np.float32), (3, 3))
    assert smooth[defective.gt_mask > 0].max() > 20


def test_other_image_sizes_keep_the_part_centred() -> None:
    part = render_part(6, DefectKind.MISSING_FEATURE, size_px=(480, 640))
    assert part.image_rgb.shape == (480, 640, 3)
    assert part.gt_mask.shape == (480, 640)
    bright = part.image_rgb.mean(axis=2) > 90
    ys, xs = np.nonzero(bright)
    assert abs(ys.mean() - 240) < 20
    assert abs(xs.mean() - 320) < 20


def test_bayer_order_is_the_one_the_station_reads() -> None:
    flat = np.empty((16, 16, 3), np.uint8)
    flat[...] = (200, 120, 40)
    rgb = to_rgb(to_bayer_rg8(flat), PixelFormat.BAYER_RG8)
    np.testing.assert_array_equal(rgb[4:-4, 4:-4], flat[4:-4, 4:-4])
