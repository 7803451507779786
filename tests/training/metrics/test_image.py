"""Image figures against scikit-learn, and what has no figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from training.metrics.image import ImageMetrics, image_metrics, image_roc

TIED = st.sampled_from([-3e38, -2.5, -0.0, 0.0, 1e-40, 1.0, 3e38])
SCORED = st.lists(st.tuples(TIED | st.floats(width=32, allow_nan=False, allow_infinity=False), st.booleans()))


def arrays(scored: list[tuple[float, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in scored], np.float32), np.array([d for _, d in scored], np.bool_)


@given(SCORED)
@example([(3e38, True), (-3e38, False)])
def test_equal_to_scikit_learn(scored: list[tuple[float, bool]]) -> None:
    scores, defective = arrays(scored)
    metrics, roc = image_metrics(scores, defective), image_roc(scores, defective)
    if len(set(defective.tolist())) < 2:
        assert metrics == ImageMetrics(None, None, None, None)
        assert roc is None
        return
    exact = scores.astype(np.float64)
    precision, recall, thresholds = precision_recall_curve(defective, exact)
    f1 = 2 * precision * recall / np.where(recall > 0, precision + recall, 1)
    assert metrics.auroc == pytest.approx(roc_auc_score(defective, exact), abs=1e-9)
    assert metrics.ap == pytest.approx(average_precision_score(defective, exact), abs=1e-9)
    assert metrics.f1_max == pytest.approx(f1.max(), abs=1e-9)
    assert metrics.f1_threshold == thresholds[np.isclose(f1[:-1], f1.max(), rtol=0, atol=1e-12)].max()
    assert metrics.f1_max == pytest.approx(f1_score(defective, scores >= metrics.f1_threshold), abs=1e-9)
    assert auc(roc.fpr, roc.height) == pytest.approx(metrics.auroc, abs=1e-9)
    assert roc.mean_height() == pytest.approx(metrics.auroc, abs=1e-9)


def test_highest_of_equally_good_thresholds() -> None:
    scores, defective = arrays([(4.0, True), (3.0, False), (2.0, False), (1.0, True)])
    metrics = image_metrics(scores, defective)
    assert (metrics.f1_max, metrics.f1_threshold) == (pytest.approx(2 / 3), 4.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("measure", [image_metrics, image_roc])
def test_score_that_is_not_finite_names_its_image(measure, value: float) -> None:
    with pytest.raises(ValueError, match=f"image 2 is {value}"):
        measure(np.array([0, 1, value, np.nan], np.float32), np.array([False, True, True, False]))


def test_labels_must_be_bool() -> None:
    with pytest.raises(ValueError, match="uint8"):
        image_metrics(np.zeros(2, np.float32), np.array([0, 255], np.uint8))


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        image_metrics(np.zeros(3, np.float32), np.zeros(2, np.bool_))
