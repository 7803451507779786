import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.histogram import BINS, Histogram
from edge.errors import EngineError

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=20), elements=FINITE | st.just(0.0))


def of(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    for array in arrays:
        histogram.add(array)
    return histogram


@given(arrays=st.lists(ARRAYS, max_size=5), seed=st.integers(0, 99))
def test_order_and_pieces_do_not_matter(arrays: list[np.ndarray], seed: int) -> None:
    values = np.concatenate([np.zeros(0, np.float32), *map(np.ravel, arrays)])
    whole = of(values)
    pieces = of(*arrays)
    shuffled = of(*np.random.default_rng(seed).permutation(values).reshape(-1, 1))
    for other in (pieces, shuffled):
        assert np.array_equal(other.counts, whole.counts)
        assert (other.zeros, other.largest, other.top) == (whole.zeros, whole.largest, whole.top)


@given(values=ARRAYS)
def test_it_is_numpys_histogram(values: np.ndarray) -> None:
    histogram = of(values)
    magnitudes = np.abs(values.astype(np.float64))
    assert np.array_equal(histogram.counts, np.histogram(magnitudes, BINS, (0, histogram.top))[0])
    assert histogram.total == values.size
    assert histogram.zeros == (values == 0).sum()
    assert histogram.largest == magnitudes.max() < histogram.top


def test_large_tensors_in_many_pieces() -> None:
    values = np.random.default_rng(0).normal(size=(3, 300, 301)).astype(np.float32)
    histogram = of(*values)
    assert np.array_equal(histogram.counts, np.histogram(np.abs(values.astype(np.float64)), BINS, (0, 8))[0])


def test_half_the_range_is_used() -> None:
    histogram = of(np.array([0.3, 1, 70, 69], np.float32))
    assert histogram.top == 128
    assert histogram.counts[BINS // 2 :].sum() == 2


def test_nothing_and_only_zeros() -> None:
    nothing, zeros = of(), of(np.zeros((2, 3), np.float32), np.zeros(0, np.float32))
    assert (nothing.total, nothing.largest) == (0, 0)
    assert (zeros.total, zeros.zeros, zeros.counts[0], zeros.largest) == (6, 6, 6, 0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_counted(wrong: float) -> None:
    histogram = of(np.ones(3, np.float32))
    with pytest.raises(EngineError, match=str(wrong)):
        histogram.add(np.array([1, wrong, 7], np.float32))
    assert (histogram.total, histogram.largest) == (3, 1)
