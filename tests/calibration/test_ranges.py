from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.histogram import BINS, Histogram
from calibration.ranges import COVERED_SHARE, LEVELS, Method, clipping_limit, divergence, squared_error

METHODS: tuple[Method, ...] = get_args(Method)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
SAMPLES = 200_000


def of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.add(values.astype(np.float32))
    return histogram


def mean_squared_error(values: np.ndarray, limit: float) -> float:
    """By quantising every value."""
    scale = limit / LEVELS
    return float(np.mean((np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale - values) ** 2))


def drawn(name: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    normal = rng.normal(size=SAMPLES)
    return {
        "gaussian": normal,
        "relu": np.maximum(normal, 0),
        "laplace": rng.laplace(size=SAMPLES),
        "lognormal": np.exp(normal),
        "uniform": rng.uniform(-5, 5, SAMPLES),
        "outlier": np.append(normal, 30),
        "two scales": np.where(rng.random(SAMPLES) < 0.01, 20 * normal, normal),
        "mostly zero": np.where(rng.random(SAMPLES) < 0.99, 0, normal),
    }[name]


DISTRIBUTIONS = ("gaussian", "relu", "laplace", "lognormal", "uniform", "outlier", "two scales", "mostly zero")


@given(values=hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE | st.just(0.0)))
def test_the_limit_is_above_0_and_none_beyond_the_largest(values: np.ndarray) -> None:
    histogram = of(values)
    for method in METHODS:
        limit = clipping_limit(histogram, method)
        assert 0 < limit <= (histogram.largest or 1)
    assert clipping_limit(histogram, "minmax") == (histogram.largest or 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "limit"), [(0.0, 1.0), (3.0, 3.0), (-1e-40, 1e-40), (3e38, 3e38)])
def test_one_value_alone(method: Method, value: float, limit: float) -> None:
    assert clipping_limit(of(np.full(7, value)), method) == pytest.approx(limit, rel=1e-3, abs=1e-45)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_percentile_covers_its_share_and_one_bin_less_does_not(name: str) -> None:
    values = np.abs(drawn(name)[drawn(name) != 0])
    histogram = of(values)
    limit = clipping_limit(histogram, "percentile")
    assert (values <= limit).mean() >= COVERED_SHARE
    assert (values < limit - 1.01 * histogram.top / BINS).mean() < COVERED_SHARE


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_the_best_by_quantising_every_value(name: str) -> None:
    values = drawn(name)
    histogram = of(values)
    error = mean_squared_error(values, clipping_limit(histogram, "mse"))
    others = [clipping_limit(histogram, method) for method in METHODS if method != "mse"]
    grid = histogram.largest * np.linspace(0.02, 1, 60)
    assert error <= 1.01 * min(mean_squared_error(values, limit) for limit in [*others, *grid])


@given(
    seed=st.integers(0, 999),
    limit_bins=st.floats(0.5, BINS),
    power=st.floats(0.3, 4),
)
def test_the_squared_error_is_that_of_values_spread_over_each_bin(seed: int, limit_bins: float, power: float) -> None:
    counts = np.random.default_rng(seed).random(40) ** power
    places = (np.arange(40 * 400) + 0.5) / 400
    errors = (np.minimum(np.rint(places * LEVELS / limit_bins), LEVELS) * limit_bins / LEVELS - places) ** 2
    brute = counts @ errors.reshape(40, 400).mean(axis=1)
    assert squared_error(counts, limit_bins) == pytest.approx(brute, rel=0.02)


@pytest.mark.parametrize("limit", [128, 129, 200, 255, 256, 1000])
def test_the_divergence_is_that_of_the_published_steps(limit: int) -> None:
    rng = np.random.default_rng(limit)
    counts = rng.poisson(200 * np.exp(-np.arange(1000) / 150)).astype(float)
    p = [*counts[: limit - 1], counts[limit - 1 :].sum()]
    level_of = [bin_index * 128 // limit for bin_index in range(limit)]
    q = []
    for bin_index in range(limit):
        same = [counts[other] for other in range(limit) if level_of[other] == level_of[bin_index] and counts[other] > 0]
        q.append(sum(same) / len(same) if counts[bin_index] > 0 else 0.0)
    q_shares = np.array(q) / sum(q)
    q_shares[-1] += 1e-4
    q_shares /= q_shares.sum()
    p_shares = np.array(p) / sum(p)
    expected = sum(share * np.log(share / other) for share, other in zip(p_shares, q_shares, strict=True) if share > 0)
    assert divergence(counts, limit) == pytest.approx(expected, rel=1e-9)


def test_an_empty_last_bin_keeps_the_divergence_finite() -> None:
    counts = np.zeros(500)
    counts[:100] = 1000
    counts[400] = 1
    assert 0 <= divergence(counts, 128) < 0.001
    counts[:100] = 0
    assert divergence(counts, 128) == np.inf


@pytest.mark.parametrize("method", ["mse", "entropy"])
@pytest.mark.parametrize("name", ["gaussian", "relu"])
def test_a_gaussian_is_clipped_where_clipping_costs_what_rounding_gains(method: Method, name: str) -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    histogram = of(np.maximum(values, 0) if name == "relu" else values)
    grid = np.linspace(3, 4.7, 35)
    best = grid[np.argmin([mean_squared_error(values, limit) for limit in grid])]
    assert clipping_limit(histogram, method) == pytest.approx(best, rel=0.06)


@pytest.mark.parametrize("far", [20.0, 60.0])
def test_one_outlier_in_a_million(far: float) -> None:
    values = np.append(np.random.default_rng(0).normal(size=999_999), far)
    histogram = of(values)
    assert clipping_limit(histogram, "minmax") == far
    for method in ("percentile", "entropy"):
        assert 3 < clipping_limit(histogram, method) < 5
    # Clipped at 4, a value of 20 costs a square of 256; rounding the rest costs 88 altogether.
    assert clipping_limit(histogram, "mse") < far / 3


@pytest.mark.parametrize("method", METHODS)
def test_uniform_values_are_hardly_clipped(method: Method) -> None:
    assert clipping_limit(of(drawn("uniform")), method) > 4.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("zeros", ["exact", "almost"])
def test_zeros_do_not_move_the_limit(method: Method, zeros: str) -> None:
    values = drawn("gaussian")
    padding = np.full(9 * SAMPLES, 0.0 if zeros == "exact" else 1e-20)
    expected = clipping_limit(of(values), method)
    if method == "percentile" and zeros == "almost":
        assert clipping_limit(of(np.append(values, padding)), method) < expected
    else:
        assert clipping_limit(of(np.append(values, padding)), method) == pytest.approx(expected, rel=0.02)
