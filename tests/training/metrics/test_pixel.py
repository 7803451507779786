"""Pixel figures against scikit-learn, AUPRO against a slow reference that shares no code with it."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from training.metrics.pixel import PixelMetrics, pixel_metrics

UNDEFINED = PixelMetrics(None, None, None, None, None, None)
TIED = st.sampled_from([-3e38, -2.5, -0.0, 0.0, 1e-40, 1.0, 3e38])
ANY_SCORE = TIED | st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def inspected(draw: st.DrawFn, score: st.SearchStrategy[float] = ANY_SCORE) -> tuple[list[np.ndarray], ...]:
    """Maps and masks of one to four images of different sizes."""
    shapes = draw(st.lists(array_shapes(min_dims=2, max_dims=2, max_side=7), min_size=1, max_size=4))
    maps = [draw(arrays(np.float32, shape, elements=score)) for shape in shapes]
    return maps, [draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 255]))) for shape in shapes]


def regions_of(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Flood fill over all eight neighbours."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask > 0)}
    regions = []
    while left:
        region, edge = [], [left.pop()]
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge.extend(near)
        regions.append(region)
    return regions


def slow_aupro(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """One threshold after the other, one region after the other."""
    regions = [
        np.array([anomaly_map[pixel] for pixel in region])
        for anomaly_map, mask in zip(maps, masks, strict=True)
        for region in regions_of(mask)
    ]
    good = np.concatenate([anomaly_map[mask == 0] for anomaly_map, mask in zip(maps, masks, strict=True)])
    thresholds = sorted({float(value) for anomaly_map in maps for value in anomaly_map.flat}, reverse=True)
    area, x, y = 0.0, 0.0, 0.0
    for threshold in thresholds:
        next_x = float(np.mean(good >= threshold))
        next_y = sum(float(np.mean(region >= threshold)) for region in regions) / len(regions)
        if next_x >= limit:
            at_limit = y if next_x == x else y + (next_y - y) / (next_x - x) * (limit - x)
            return (area + (limit - x) * (y + at_limit) / 2) / limit
        area += (next_x - x) * (y + next_y) / 2
        x, y = next_x, next_y
    raise AssertionError("the lowest threshold marks every pixel")


def joined(arrays_2d: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays_2d])


def random_inspection(seed: int, sizes_px: list[tuple[int, int]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Noise that is higher in defects of one pixel up to a quarter of the image; the last image is good."""
    rng = np.random.default_rng(seed)
    masks = [np.zeros(size, np.uint8) for size in sizes_px]
    for mask in masks[:-1]:
        for side in (1, 1, 2, 5, min(mask.shape) // 2):
            y, x = rng.integers(0, np.array(mask.shape) - side + 1)
            mask[y : y + side, x : x + side] = 255
    return [(rng.standard_normal(mask.shape) + mask / 200).astype(np.float32) for mask in masks], masks


@given(inspected())
def test_pixel_figures_are_those_of_scikit_learn(case: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    maps, masks = case
    metrics, curves = pixel_metrics(maps, masks)
    scores, defect = joined(maps).astype(np.float64), joined(masks) > 0
    if defect.all() or not defect.any():
        assert (metrics, curves) == (UNDEFINED, None)
        return
    precision, recall, thresholds = precision_recall_curve(defect, scores)
    f1 = 2 * precision * recall / np.where(recall > 0, precision + recall, 1)
    assert metrics.auroc == pytest.approx(roc_auc_score(defect, scores), abs=1e-9)
    assert metrics.ap == pytest.approx(average_precision_score(defect, scores), abs=1e-9)
    assert metrics.f1_max == pytest.approx(f1.max(), abs=1e-9)
    assert metrics.f1_threshold == thresholds[np.isclose(f1[:-1], f1.max(), rtol=0, atol=1e-12)].max()
    assert curves is not None
    assert curves.roc.mean_height() == pytest.approx(metrics.auroc, abs=1e-9)


@given(inspected())
def test_aupro_is_that_of_the_slow_reference(case: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    maps, masks = case
    metrics, curves = pixel_metrics(maps, masks)
    if curves is not None:
        assert metrics.aupro_30 == pytest.approx(slow_aupro(maps, masks, 0.3), abs=1e-9)
        assert metrics.aupro_05 == pytest.approx(slow_aupro(maps, masks, 0.05), abs=1e-9)
        assert curves.pro.mean_height(0.3) == pytest.approx(metrics.aupro_30, abs=1e-9)


@pytest.mark.parametrize("decimals", [1, 7], ids=["many ties", "hardly any tie"])
def test_large_random_case(decimals: int) -> None:
    maps, masks = random_inspection(decimals, [(48, 40), (30, 61), (64, 24), (33, 33)])
    maps = [anomaly_map.round(decimals) for anomaly_map in maps]
    assert len(regions_of(masks[0])) > 2
    metrics, curves = pixel_metrics(maps, masks)
    scores, defect = joined(maps), joined(masks) > 0
    assert metrics.auroc == pytest.approx(roc_auc_score(defect, scores), abs=1e-9)
    assert metrics.ap == pytest.approx(average_precision_score(defect, scores), abs=1e-9)
    assert metrics.aupro_30 == pytest.approx(slow_aupro(maps, masks, 0.3), abs=1e-9)
    assert metrics.aupro_05 == pytest.approx(slow_aupro(maps, masks, 0.05), abs=1e-9)
    for curve in (curves.roc, curves.pro):
        assert len(curve.fpr) <= 1000
        np.testing.assert_allclose([curve.fpr[[0, -1]], curve.height[[0, -1]]], [[0, 1], [0, 1]], atol=1e-12)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], np.bool_)
    anomaly_map = np.where(np.eye(4) * mask, 0, 1).astype(np.float32)
    anomaly_map[3, 3] = 2
    # The lone pixel is found at once, the pair only after all good ones: half of the regions, not a third.
    metrics, _ = pixel_metrics([anomaly_map], [mask])
    assert metrics.aupro_30 == pytest.approx(0.5)


def test_small_region_weighs_as_much_as_a_large_one() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:10] = mask[19, 19] = 1
    only_large = np.where(np.arange(20)[:, None] < 10, 1, 0) + np.zeros((20, 20))
    only_small = np.zeros((20, 20))
    only_small[19, 19] = 1
    found = [pixel_metrics([anomaly_map.astype(np.float32)], [mask])[0] for anomaly_map in (only_large, only_small)]
    # Half of the regions at once, the other half along the diagonal up to false-positive rate 1.
    assert [metrics.aupro_30 for metrics in found] == pytest.approx([0.5 + 0.5 * 0.15] * 2)


def test_all_tied_perfect_and_inverted_maps() -> None:
    _, masks = random_inspection(3, [(20, 30), (25, 10), (9, 9)])
    tied, _ = pixel_metrics([np.full(mask.shape, 7, np.float32) for mask in masks], masks)
    assert (tied.auroc, tied.f1_threshold) == (0.5, 7)
    assert (tied.aupro_30, tied.aupro_05) == pytest.approx((0.15, 0.025))
    perfect, _ = pixel_metrics([mask.astype(np.float32) for mask in masks], masks)
    assert astuple(perfect) == pytest.approx((1, 1, 1, 255, 1, 1))
    inverted, _ = pixel_metrics([-mask.astype(np.float32) for mask in masks], masks)
    assert (inverted.auroc, inverted.aupro_30, inverted.aupro_05) == (0, 0, 0)


RANKS = st.integers(0, 9).map(float)
RISING = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=10, max_size=10, unique_by=lambda x: x
).map(sorted)


@given(inspected(RANKS), RISING)
def test_only_the_order_of_scores_counts(case: tuple[list[np.ndarray], list[np.ndarray]], rising: list[float]) -> None:
    ranks, masks = case
    table = np.array(rising, np.float32)
    metrics, _ = pixel_metrics(ranks, masks)
    transformed, _ = pixel_metrics([table[rank.astype(int)] for rank in ranks], masks)
    if metrics.f1_threshold is not None:
        metrics = replace(metrics, f1_threshold=float(table[int(metrics.f1_threshold)]))
    assert transformed == metrics


@given(inspected(), st.randoms(use_true_random=False))
def test_order_of_images_does_not_count(case: tuple[list[np.ndarray], list[np.ndarray]], random) -> None:
    pairs = list(zip(*case, strict=True))
    expected, _ = pixel_metrics(*case)
    random.shuffle(pairs)
    shuffled, _ = pixel_metrics(*zip(*pairs, strict=True))
    assert astuple(shuffled) == pytest.approx(astuple(expected), abs=1e-12)


def test_nothing_to_measure() -> None:
    assert pixel_metrics([], []) == (UNDEFINED, None)


@pytest.mark.parametrize(
    ("second_map", "problem"),
    [
        (np.array([[0, np.nan]], np.float32), "image 1.*not finite"),
        (np.array([[0, -np.inf]], np.float32), "image 1.*not finite"),
        (np.zeros((1, 2)), "image 1.*float64"),
        (np.zeros((2, 1), np.float32), r"image 1.*\(2, 1\).*\(1, 2\)"),
    ],
)
def test_map_that_does_not_fit_names_its_image(second_map: np.ndarray, problem: str) -> None:
    masks = [np.array([[1, 0]], np.uint8)] * 2
    with pytest.raises(ValueError, match=problem):
        pixel_metrics([np.zeros((1, 2), np.float32), second_map], masks)


def test_every_map_has_a_mask() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pixel_metrics([np.zeros((1, 2), np.float32)], [])


@given(
    arrays(np.float32, (3, 6, 7), elements=ANY_SCORE),
    arrays(np.uint8, (3, 6, 7), elements=st.integers(0, 1)),
    st.slices(6),
    st.slices(7),
)
def test_what_is_not_counted_is_as_if_cut_off(maps: np.ndarray, masks: np.ndarray, rows: slice, columns: slice) -> None:
    rows, columns = (slice(*sorted((s.start or 0, s.stop or 0))) for s in (rows, columns))
    counted = np.zeros((6, 7), bool)
    counted[rows, columns] = True
    if not counted.any():
        assert pixel_metrics(list(maps), list(masks), counted) == (UNDEFINED, None)
        return
    expected, _ = pixel_metrics(list(maps[:, rows, columns]), list(masks[:, rows, columns]))
    assert pixel_metrics(list(maps), list(masks), counted)[0] == expected


def test_what_is_counted_has_the_images_size() -> None:
    with pytest.raises(ValueError, match=r"image 0.*\(1, 2\).*\(2, 2\)"):
        pixel_metrics([np.zeros((1, 2), np.float32)], [np.zeros((1, 2), np.uint8)], np.ones((2, 2), bool))


def test_maps_are_taken_one_by_one() -> None:
    maps, masks = np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([[[0, 0], [0, 1]], [[0, 1], [1, 0]]])
    masks = masks.astype(np.uint8)
    assert pixel_metrics(iter(maps), list(masks))[0] == pixel_metrics(list(maps), list(masks))[0]
