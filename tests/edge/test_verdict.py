import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.verdict import Limits, find_defects, is_defective, judge, tile_maxima

LIMITS = Limits(image_threshold=1.0, pixel_threshold=0.5, min_area_px=4)


def spots(*regions):
    anomaly_map = np.zeros((64, 64), np.float32)
    for rows, columns, value in regions:
        anomaly_map[rows, columns] = value
    return anomaly_map


def judged(anomaly_map, score):
    above = (anomaly_map >= LIMITS.pixel_threshold).astype(np.uint8)
    return judge(score, tile_maxima(anomaly_map), anomaly_map, above, LIMITS)


def test_defects_have_box_area_peak_and_centroid():
    anomaly_map = spots((slice(10, 14), slice(20, 30), 0.7), (slice(40, 44), slice(5, 9), 0.9))
    anomaly_map[12, 25] = 0.8
    judgement = judged(anomaly_map, 1.0)
    assert judgement.verdict == "NG"
    strongest, second = judgement.defects
    assert strongest.bbox_xywh == (5, 40, 4, 4)
    assert strongest.score_max == pytest.approx(0.9)
    assert second.bbox_xywh == (20, 10, 10, 4)
    assert second.area_px == 40
    assert second.area_frac == pytest.approx(40 / 64**2)
    assert second.peak_xy == (25, 12)
    assert second.centroid_xy == pytest.approx((24.5, 11.5))


def test_below_the_threshold_is_ok_and_has_no_defects():
    judgement = judged(spots((slice(0, 9), slice(0, 9), 0.9)), np.nextafter(1.0, 0.0))
    assert judgement.verdict == "OK"
    assert judgement.defects == ()
    assert not judgement.mask.any()


def test_small_spots_are_dropped_from_mask_and_list():
    judgement = judged(spots((slice(0, 1), slice(0, 3), 0.9), (slice(9, 11), slice(9, 11), 0.9)), 2.0)
    assert [defect.area_px for defect in judgement.defects] == [4]
    assert judgement.mask.sum() == 4


def test_regions_that_touch_at_a_corner_are_one_defect():
    judgement = judged(spots((slice(0, 2), slice(0, 2), 0.9), (slice(2, 4), slice(2, 4), 0.9)), 2.0)
    assert [defect.area_px for defect in judgement.defects] == [8]


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_never_a_verdict(score):
    with pytest.raises(ValueError, match="not finite"):
        judged(spots(), score)


def test_a_map_that_is_no_number_is_never_a_verdict():
    with pytest.raises(ValueError, match="not finite"):
        judged(spots((slice(0, 1), slice(0, 1), np.nan)), 0.0)


@given(hnp.arrays(np.float32, (24, 24), elements=st.floats(0, 1, width=32)), st.integers(1, 9))
def test_mask_is_the_union_of_the_defects(anomaly_map, min_area_px):
    defects, mask = find_defects(anomaly_map, (anomaly_map >= 0.5).astype(np.uint8), min_area_px)
    assert sum(defect.area_px for defect in defects) == mask.sum()
    assert cv2.connectedComponents(mask, connectivity=8)[0] - 1 == len(defects)
    assert not (mask & (anomaly_map < 0.5)).any()
    for defect in defects:
        x, y, width, height = defect.bbox_xywh
        assert defect.area_px >= min_area_px
        assert anomaly_map[defect.peak_xy[1], defect.peak_xy[0]] == np.float32(defect.score_max)
        assert x <= defect.centroid_xy[0] <= x + width - 1
        assert y <= defect.centroid_xy[1] <= y + height - 1


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=50), elements=st.floats(0, 1, width=32))
)
def test_every_pixel_is_in_one_tile(anomaly_map):
    maxima = tile_maxima(anomaly_map)
    assert maxima.shape == tuple(-(-length // 16) for length in anomaly_map.shape)
    for row, column in np.ndindex(*maxima.shape):
        tile = anomaly_map[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert maxima[row, column] == tile.max()


def test_without_defects_the_map_is_not_looked_at():
    unread = np.full((64, 64), np.nan, np.float32)
    calm = np.zeros((4, 4), np.float32)
    assert judge(0.5, calm, unread, np.ones((64, 64), np.uint8), LIMITS).verdict == "OK"
    assert is_defective(1.0, calm, LIMITS)
