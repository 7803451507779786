from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.frame import Image
from edge.overlay import FULL_SCALE, colour_scale, enlarge, heat_map, outline

GREY = np.full((32, 32, 3), 110, np.uint8)


def brightness(rgb: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return rgb.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722])


def test_a_good_part_keeps_its_own_colours() -> None:
    anomaly_map = np.full((32, 32), 0.39 * 0.5, np.float32)
    assert np.array_equal(heat_map(GREY, anomaly_map, 0.5), GREY)


@given(threshold=st.floats(1e-4, 1e3), level=st.floats(0, 10))
def test_the_same_share_of_the_threshold_has_the_same_colour(threshold: float, level: float) -> None:
    painted = heat_map(GREY, np.full((32, 32), level * threshold, np.float32), threshold)
    reference = heat_map(GREY, np.full((32, 32), level, np.float32), 1.0)
    assert np.abs(painted.astype(int) - reference.astype(int)).max() <= 4


def test_colour_is_brighter_the_further_above_the_threshold_and_then_saturates() -> None:
    levels = np.linspace(1.0, FULL_SCALE, 32, dtype=np.float32)
    painted = heat_map(GREY, np.tile(levels, (32, 1)), 1.0)
    assert (np.diff(brightness(painted[0])) >= 0).all()
    assert np.array_equal(
        heat_map(GREY, np.full((32, 32), 9, np.float32), 1.0),
        heat_map(GREY, np.full((32, 32), FULL_SCALE, np.float32), 1.0),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_painted_magenta_and_nothing_else(value: float) -> None:
    anomaly_map = np.zeros((32, 32), np.float32)
    anomaly_map[3, 5] = value
    painted = heat_map(GREY, anomaly_map, 1.0)
    assert painted[3, 5].tolist() == [255, 0, 255]
    painted[3, 5] = GREY[3, 5]
    assert np.array_equal(painted, GREY)


@given(mask=hnp.arrays(np.uint8, (32, 32), elements=st.integers(0, 1)))
def test_an_outline_never_covers_the_defect_and_touches_only_its_surroundings(mask: Image) -> None:
    drawn = outline(GREY, mask)
    changed = (drawn != GREY).any(axis=2)
    assert not changed[mask == 1].any()
    assert changed.any() == (0 < mask.sum() < mask.size)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_single_pixel_gets_a_closed_outline_at_every_scale(scale: int) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[10, 20] = 1
    drawn = outline(GREY, mask, scale)
    assert drawn.shape == (32 * scale, 32 * scale, 3)
    yellow = (drawn == (255, 214, 0)).all(axis=2)
    y, x = 10 * scale + scale // 2, 20 * scale + scale // 2
    assert not yellow[y, x]
    for ray in (yellow[y, :x], yellow[y, x:], yellow[:y, x], yellow[y:, x]):
        assert ray.any()


def test_the_inputs_are_left_alone() -> None:
    image, mask = GREY.copy(), np.eye(32, dtype=np.uint8)
    heat_map(image, mask.astype(np.float32), 0.5)
    outline(image, mask, 1)
    enlarge(image, 1)[:] = 0
    assert np.array_equal(image, GREY)
    assert np.array_equal(mask, np.eye(32, dtype=np.uint8))


def test_the_legend_shows_what_the_heat_map_paints() -> None:
    legend = colour_scale(101, 4)
    assert legend.shape == (4, 101, 3)
    for column, level in ((0, 0.0), (50, 1.0), (100, FULL_SCALE)):
        painted = heat_map(GREY, np.full((32, 32), level, np.float32), 1.0)
        assert np.abs(legend[0, column].astype(int) - painted[0, 0].astype(int)).max() <= 4
