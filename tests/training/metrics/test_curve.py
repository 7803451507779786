"""The mean height by hand, and thinning that keeps the shape."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics.curve import Curve

STAIRS = Curve(np.array([0.0, 0.0, 0.2, 0.2, 0.6, 1.0]), np.array([0.0, 0.4, 0.4, 0.6, 1.0, 1.0]))


@pytest.mark.parametrize(
    ("limit", "mean"),
    [
        (0.1, 0.4),
        (0.2, 0.4),  # the rise at the limit has no width
        (0.4, (0.2 * 0.4 + 0.2 * (0.6 + 0.8) / 2) / 0.4),
        (0.6, (0.2 * 0.4 + 0.4 * 0.8) / 0.6),
        (1.0, 0.2 * 0.4 + 0.4 * 0.8 + 0.4),
    ],
)
def test_mean_height(limit: float, mean: float) -> None:
    assert STAIRS.mean_height(limit) == pytest.approx(mean, abs=1e-12)


def test_thinned_keeps_ends_and_shape() -> None:
    rng = np.random.default_rng(0)
    steps = rng.exponential(size=(2, 50_000)) * rng.integers(0, 2, (2, 50_000))
    fpr, height = (np.append(0, np.cumsum(step)) for step in steps)
    curve = Curve(fpr / fpr[-1], (height / height[-1]) ** 0.1)
    thin = curve.thinned()
    assert 500 < len(thin.fpr) <= 1000
    assert (thin.fpr[0], thin.height[0], thin.fpr[-1], thin.height[-1]) == (0, 0, 1, 1)
    points = set(zip(curve.fpr, curve.height, strict=True))
    assert points.issuperset(zip(thin.fpr, thin.height, strict=True))
    assert thin.mean_height() == pytest.approx(curve.mean_height(), abs=1e-3)
    assert thin.mean_height(0.05) == pytest.approx(curve.mean_height(0.05), abs=1e-2)


def test_short_curve_stays_whole() -> None:
    assert len(STAIRS.thinned().fpr) == len(STAIRS.fpr)
