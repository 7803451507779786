"""Thresholds: the conformal guarantee, and refusal where there can be none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from training.thresholds import image_threshold, pixel_threshold


@given(n=st.integers(99, 400), rate=st.sampled_from([0.01, 0.02, 0.05, 0.1]), seed=st.integers(0, 100))
def test_exactly_k_of_the_held_out_parts_pass(n: int, rate: float, seed: int) -> None:
    scores = np.random.default_rng(seed).lognormal(size=n).astype(np.float32)
    limit = image_threshold(scores, rate)
    assert (scores < limit).sum() == math.ceil((n + 1) * (1 - rate))


def test_new_good_parts_are_rejected_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(0)
    rejected = [
        float(np.mean(rng.lognormal(size=2000) >= image_threshold(rng.lognormal(size=199).astype(np.float32), 0.05)))
        for _ in range(200)
    ]
    assert np.mean(rejected) < 0.055


def test_too_few_parts_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ConfigError, match="at least 99"):
        image_threshold(np.ones(98, np.float32), 0.01)
    image_threshold(np.ones(99, np.float32), 0.01)


def test_pixel_threshold_leaves_the_stated_share_above() -> None:
    maps = np.random.default_rng(1).random((4, 50, 50), dtype=np.float32)
    assert (maps >= pixel_threshold(maps, 0.01)).sum() == 100
