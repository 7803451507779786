"""Mean and spread over seeds."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from training.metrics.image import ImageMetrics
from training.metrics.summary import over_seeds


def test_mean_and_sample_deviation_keep_the_nesting() -> None:
    runs = [{"image": {"auroc": value}, "parts": 4} for value in (0.9, 0.8, 1.0)]
    assert over_seeds(runs) == {
        "image": {"auroc": {"mean": pytest.approx(0.9), "std": pytest.approx(0.1)}},
        "parts": {"mean": 4, "std": 0},
    }


def test_one_run_has_no_deviation() -> None:
    assert over_seeds([{"auroc": 0.9}]) == {"auroc": {"mean": 0.9, "std": None}}


def test_undefined_in_one_run_is_undefined() -> None:
    runs = [asdict(ImageMetrics(auroc, 0.5, 0.5, 1.0)) for auroc in (0.5, None)]
    assert over_seeds(runs)["auroc"] == {"mean": None, "std": None}
    assert over_seeds(runs)["ap"] == {"mean": 0.5, "std": 0}


def test_single_precision_figures_count() -> None:
    assert over_seeds([{"ap": np.float32(0.5)}, {"ap": 0.25}])["ap"]["mean"] == 0.375


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ([], "no run"),
        ([{"ap": 1.0}, {"ap": 1.0, "auroc": 1.0}], r"\['auroc'\]"),
        ([{"ap": 1.0}, {"auroc": 1.0}], r"\['ap', 'auroc'\]"),
        ([{"ap": {"a": 1.0}}, {"ap": 1.0}], "'ap' is a group"),
        ([{"ap": {"a": 1.0}}, {"ap": None}], "'ap' is a group"),
        ([{"ap": 1.0}, {"ap": float("nan")}], "'ap' is not finite"),
    ],
)
def test_runs_that_do_not_fit(runs: list[dict[str, object]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        over_seeds(runs)
