"""Pictures of unusual input, and what their pixels say."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.pictures import bars, fitting_gain, heat_colours, score_histogram, score_scatter, side_by_side

SIDE_PX, GAP_PX = 32, 8


def decode(png: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image)


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [([0.5], 0.5), ([0.5, 0.5], 0.6), ([-3, 2], 7), ([1e-6, 1], 1e-6), ([0, 0], 1e-12), ([1e6, 1], 1), ([5, 9], 2)],
)
def test_any_scores_make_a_histogram_and_a_scatter(scores: list[float], threshold: float) -> None:
    found = np.array(scores, np.float32)
    assert decode(score_histogram(found, threshold)).std() > 5
    assert decode(score_scatter(found, found[::-1], threshold, ("left", "right"))).std() > 5


def test_a_changed_verdict_stands_out_in_orange() -> None:
    def orange(other: list[float]) -> int:
        picture = decode(score_scatter(np.array([0.2, 0.8], np.float32), np.array(other, np.float32), 0.5, ("a", "b")))
        return int((np.abs(picture[..., :3].astype(int) - (0, 94, 213)).max(axis=2) < 10).sum())

    assert orange([0.2, 0.4]) > orange([0.2, 0.8]) > 0, "the legend alone in the second"


@given(st.floats(1e-6, 1e3), st.floats(1e-3, 1e2))
def test_the_gain_uses_the_colours_and_never_exceeds_them(largest: float, limit: float) -> None:
    zero = np.zeros((1, 2, 2), np.float32)
    columns = {"a": zero, "between": zero + 7, "b": zero + np.float32(largest)}
    gain, shown = fitting_gain(columns, limit), float(np.float32(largest))
    assert str(gain).rstrip("0") in {"1", "2", "5"}
    assert gain == 1 or gain * shown <= 2 * limit
    assert gain >= 10**9 or 2.5 * gain * shown > 2 * limit


def test_equal_maps_need_no_gain() -> None:
    maps = np.ones((1, 2, 2), np.float32)
    assert fitting_gain({"a": maps, "b": maps.copy()}, 1.0) >= 1


def test_columns_are_the_image_its_heat_maps_and_their_difference() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    maps = np.zeros((2, SIDE_PX, SIDE_PX), np.float32)
    maps[0, :16] = 2.0
    other = maps.copy()
    other[1, 20:, 20:] += 0.01
    picture = decode(side_by_side(images, {"a": maps, "between": maps, "b": other}, limit=1.0, gain=200))
    step = SIDE_PX + GAP_PX
    assert picture.shape == (2 * step - GAP_PX, 5 * step - GAP_PX, 4)
    assert (picture[SIDE_PX:step, :, 3] == 0).all()
    assert (picture[:SIDE_PX, SIDE_PX:step, 3] == 0).all()
    for row, image in enumerate(images):
        plain, first, between, last, amplified = (
            picture[row * step :, column * step :][:SIDE_PX, :SIDE_PX, 2::-1].astype(int) for column in range(5)
        )
        assert (plain == image).all()
        assert (first == between).all()
        assert (first != image).any(axis=2)[:16].mean() == pytest.approx(1 - row, abs=0.02)
        assert (last == first).all(), "a hundredth of the limit is not seen"
        changed = (amplified != image).any(axis=2)
        assert changed[20:, 20:].mean() == pytest.approx(row, abs=0.05)
        assert not changed[:20].any()


@pytest.mark.parametrize("limit", [None, 0.5])
def test_bars(limit: float | None) -> None:
    assert decode(bars(["stem", "encoder", "head"], [0.1, 0.5, 0.9], limit, "error")).std() > 5


def test_the_scale_begins_grey() -> None:
    scale = decode(heat_colours())
    assert (scale[:, 0] == 110).all()
    assert np.ptp(scale[0, -1]) > 50
