"""Thresholds: the conformal guarantee, what it is when there are too few parts, and that it is kept."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from training.thresholds import image_threshold, images_needed, pixel_threshold

SHA = "0" * 64
RATES = st.integers(1, 999).map(lambda thousandths: thousandths / 1000)
SCORES = st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=1, max_size=60).map(
    lambda values: np.array(values, np.float32)
)
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, Draw] = {
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
    "uniform": lambda rng, shape: rng.uniform(1, 2, shape),
    "pareto": lambda rng, shape: 1 + rng.pareto(0.5, shape),
    "two kinds": lambda rng, shape: rng.normal(10, 0.1, shape) + 5 * (rng.random(shape) < 0.03),
}
WITH_TIES: dict[str, Draw] = {
    "four levels": lambda rng, shape: rng.integers(1, 5, shape).astype(np.float64),
    "rounded": lambda rng, shape: np.ceil(rng.lognormal(size=shape)),
    "nearly always one": lambda rng, shape: 1.0 + (rng.random(shape) < 0.02),
}


@given(scores=SCORES, rate=RATES)
def test_as_many_parts_reach_the_limit_as_the_guarantee_allows(scores: np.ndarray, rate: float) -> None:
    limit = image_threshold(scores, rate, SHA)
    n = len(scores)
    allowed = int((n + 1) * Fraction(str(rate)))
    reach = int((scores >= np.float32(limit.value)).sum())
    assert (limit.n, limit.false_reject_rate, limit.data_sha256) == (n, rate, SHA)
    if allowed:
        assert limit.guaranteed_rate == allowed / (n + 1) <= rate
        assert reach <= allowed - 1
    else:
        assert limit.guaranteed_rate == 1 / (n + 1) > rate
        assert reach == 0
    # The next smaller limit is a good part's own score, and would let it and its equals down.
    below = np.nextafter(np.float32(limit.value), np.float32(0))
    assert below in scores
    assert (scores >= below).sum() >= max(allowed, 1)


@given(scores=SCORES, rate=RATES)
def test_order_is_irrelevant_and_scale_goes_through(scores: np.ndarray, rate: float) -> None:
    limit = image_threshold(scores, rate, SHA)
    assert image_threshold(scores[::-1].copy(), rate, SHA) == limit
    assert image_threshold(4 * scores, rate, SHA).value == 4 * limit.value


@given(scores=SCORES, rates=st.tuples(RATES, RATES).map(sorted))
def test_who_allows_more_false_alarms_gets_no_higher_limit(scores: np.ndarray, rates: list[float]) -> None:
    strict, lax = (image_threshold(scores, rate, SHA) for rate in rates)
    assert lax.value <= strict.value
    assert lax.guaranteed_rate >= strict.guaranteed_rate


@given(rate=RATES)
def test_images_needed_is_the_smallest_number_that_can_keep_the_rate(rate: float) -> None:
    needed = images_needed(rate)
    assert image_threshold(np.ones(max(needed, 1), np.float32), rate, SHA).guaranteed_rate <= rate
    if needed > 1:
        assert image_threshold(np.ones(needed - 1, np.float32), rate, SHA).guaranteed_rate > rate


def test_rates_count_as_they_are_written() -> None:
    # In floating point 0.29 of 100 are 28.999999999999996.
    assert image_threshold(np.arange(1, 100, dtype=np.float32), 0.29, SHA).guaranteed_rate == 0.29
    assert images_needed(0.01) == 99


def false_rejects(draw: Draw, n: int, rate: float, splits: int) -> tuple[np.ndarray, float, tuple[float, float]]:
    """The share of 4,000 new parts that each of many splits' limits rejects; the guarantee and the interval."""
    rng = np.random.default_rng(7)
    shares = np.empty(splits)
    for split in range(splits):
        scores = draw(rng, (n + 4000,)).astype(np.float32)
        limit = image_threshold(scores[:n], rate, SHA)
        shares[split] = (scores[n:] >= np.float32(limit.value)).mean()
    return shares, limit.guaranteed_rate, limit.interval


@pytest.mark.parametrize("name", [*DISTRIBUTIONS, *WITH_TIES])
@pytest.mark.parametrize(("n", "rate"), [(20, 0.01), (99, 0.01), (150, 0.05), (500, 0.005)])
def test_new_good_parts_are_rejected_no_more_often_than_promised(name: str, n: int, rate: float) -> None:
    shares, guaranteed, (low, high) = false_rejects((DISTRIBUTIONS | WITH_TIES)[name], n, rate, 600)
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert shares.mean() <= guaranteed + 3 * error
    # 4,000 new parts do not tell the share of all good parts exactly.
    blur = 2 * np.sqrt(guaranteed / 4000)
    assert (shares <= high + blur).mean() >= 0.95 - 0.03
    if name in DISTRIBUTIONS:
        assert shares.mean() >= guaranteed - 3 * error, "without ties the guarantee is no more careful than need be"
        assert (shares >= low - blur).mean() >= 0.95 - 0.03


def test_the_interval_holds_nine_in_ten_of_the_draws() -> None:
    rng, n = np.random.default_rng(3), 200
    # Of uniform scores, a limit's share of good parts above it is known without drawing any.
    limits = [image_threshold(rng.random(n, np.float32), 0.05, SHA) for _ in range(2000)]
    low, high = limits[0].interval
    shares = 1 - np.array([limit.value for limit in limits])
    assert ((low <= shares) & (shares <= high)).mean() == pytest.approx(0.9, abs=0.02)
    assert shares.mean() == pytest.approx(limits[0].guaranteed_rate, abs=0.001)


@given(
    seed=st.integers(0, 1000),
    rate=RATES,
    pixel_share=st.sampled_from([1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9]),
    levels=st.sampled_from([3, 1000]),
)
def test_a_part_reaches_the_pixel_limit_when_more_than_a_share_of_its_pixels_do(
    seed: int, rate: float, pixel_share: float, levels: int
) -> None:
    maps = np.random.default_rng(seed).integers(1, levels + 1, (12, 20, 50)).astype(np.float32)
    limit = pixel_threshold(maps, rate, SHA, pixel_share)
    more = int(1000 * Fraction(str(pixel_share)))
    reach = (maps >= np.float32(limit.value)).sum(axis=(1, 2)) > more
    assert reach.sum() <= max(int(13 * Fraction(str(rate))), 1) - 1
    below = (maps >= np.nextafter(np.float32(limit.value), np.float32(0))).sum(axis=(1, 2)) > more
    assert below.sum() >= max(int(13 * Fraction(str(rate))), 1), "a smaller limit would let too many parts reach it"
    assert limit.pixel_share == pixel_share
    assert limit.guaranteed_rate == image_threshold(np.ones(12, np.float32), rate, SHA).guaranteed_rate


def test_masks_of_new_good_parts_keep_the_promise() -> None:
    rng, reached = np.random.default_rng(11), []
    for _ in range(200):
        maps = rng.gamma(1, size=(39 + 200, 1)) + rng.exponential(size=(39 + 200, 400))
        limit = pixel_threshold(maps[:39].astype(np.float32), 0.05, SHA, 0.01)
        reached.append(((maps[39:] >= limit.value).mean(axis=1) > 0.01).mean())
    error = np.std(reached, ddof=1) / np.sqrt(len(reached))
    assert limit.guaranteed_rate == 2 / 40
    assert np.mean(reached) == pytest.approx(limit.guaranteed_rate, abs=3 * error)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([], "no held-out good parts"),
        ([1.0, np.nan, 2.0], "not a finite number"),
        ([1.0, np.inf], "not a finite number"),
        ([0.0, 0.0], "lead to the threshold 0"),
    ],
)
def test_scores_that_no_limit_could_come_from(scores: list[float], words: str) -> None:
    array = np.array(scores, np.float32)
    with pytest.raises(ConfigError, match=words):
        image_threshold(array, 0.5, SHA)
    with pytest.raises(ConfigError, match=words):
        pixel_threshold(np.repeat(array[:, None], 4, axis=1), 0.5, SHA)
