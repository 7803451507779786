"""From a tensor's histogram to the largest magnitude that INT8 still tells apart."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.histogram import BINS, Histogram

Method = Literal["minmax", "percentile", "mse", "entropy"]
LEVELS = 127
COVERED_SHARE = 0.9999
_CANDIDATES = 512
_ENTROPY_LEVELS = 128
_SMOOTHING = 1e-4

_Bins = npt.NDArray[np.float64]


def clipping_limit(histogram: Histogram, method: Method) -> float:
    """Limit of a symmetric INT8 tensor: what lies beyond is clipped to it; the scale is the limit / LEVELS.

    `minmax` clips nothing. The others trade what they clip for finer steps, and do not count exact zeros, which cost
    nothing at any scale and make up half of a tensor behind a ReLU:

    * `percentile` is the smallest limit that covers COVERED_SHARE of the values. In a tensor of a million that leaves a
      hundred, more than the few whose magnitude says nothing of the rest; the usual choices lie between 99.9 % and
      99.9999 % (Wu et al., "Integer quantization for deep learning inference", 2020, section 4).
    * `mse` has the least mean squared error of clipping and rounding together.
    * `entropy` has the least divergence of the distribution in 128 levels from the one before (Migacz, "8-bit inference
      with TensorRT", GTC 2017).

    Returns:
        Above 0 and at most `histogram.largest`; 1 for a tensor that is 0 throughout. `percentile` gives an edge of a
        bin, `mse` and `entropy` the best of candidates less than 2 % apart. Those of `entropy` begin at 128 bins, which
        is 1/32 to 1/16 of the largest. `mse` follows a far outlier as far as its square demands.
    """
    if histogram.largest == 0:
        return 1.0
    if method == "minmax":
        return histogram.largest
    counts = histogram.counts.astype(np.float64)
    counts[0] -= histogram.zeros
    width = histogram.top / BINS
    limit_bins = {"percentile": _percentile, "mse": _mse, "entropy": _entropy}[method](counts)
    return min(limit_bins * width, histogram.largest)


def _percentile(counts: _Bins) -> float:
    covered = np.cumsum(counts)
    return float(np.searchsorted(covered, COVERED_SHARE * covered[-1]) + 1)


def _mse(counts: _Bins) -> float:
    filled = _filled(counts)
    limits = np.geomspace(1, filled, _CANDIDATES)
    return float(limits[np.argmin([squared_error(counts[:filled], limit) for limit in limits])])


def squared_error(counts: _Bins, limit: float) -> float:
    """Summed squared error of clipping at a limit and rounding to LEVELS steps below it, in units of a bin's width.

    Exact for values spread evenly within each bin: with the step s and the level k nearest to x, at most LEVELS, the
    error from 0 to x integrates to k s³ / 12 + (x - k s)³ / 3.
    """
    step = limit / LEVELS
    edges = np.arange(len(counts) + 1, dtype=np.float64)
    levels = np.minimum(np.rint(edges / step), LEVELS)
    return float(counts @ np.diff(levels * step**3 / 12 + (edges - levels * step) ** 3 / 3))


def _entropy(counts: _Bins) -> float:
    """Bin 0 counts as much as bin 1: it rounds to 0 at every candidate, and where it is a peak would outweigh the rest.

    So does the histogram calibrator of NVIDIA's pytorch-quantization.
    """
    counts[0] = counts[1]
    filled = _filled(counts)
    if filled <= _ENTROPY_LEVELS:
        return float(filled)
    limits = np.unique(np.geomspace(_ENTROPY_LEVELS, filled, _CANDIDATES).astype(int))
    return float(limits[np.argmin([divergence(counts, limit) for limit in limits])])


def divergence(counts: _Bins, limit: int) -> float:
    """Kullback–Leibler divergence of the clipped distribution P from Q, the same in 128 levels without what is clipped.

    Each level of Q spreads evenly over those of its bins that hold anything. The last bin, where P has all that is
    clipped, may hold nothing in Q: it gets a share of 1e-4 more, so that the divergence stays finite.

    Args:
        counts: of the whole histogram.
        limit: in bins, 128 at least.
    """
    inside = counts[:limit]
    clipped = counts[limit:].sum()
    if not inside.any():
        return np.inf
    holds = inside > 0
    first = -(-np.arange(_ENTROPY_LEVELS) * limit // _ENTROPY_LEVELS)
    bins_holding = np.add.reduceat(holds, first, dtype=np.int64)
    means = np.add.reduceat(inside, first) / np.maximum(bins_holding, 1)
    q = np.repeat(means, np.diff(first, append=limit)) * holds / inside.sum()
    q[-1] += _SMOOTHING
    q /= 1 + _SMOOTHING
    p = inside / (inside.sum() + clipped)
    p[-1] += clipped / (inside.sum() + clipped)
    some = p > 0
    return float(p[some] @ np.log(p[some] / q[some]))


def _filled(counts: _Bins) -> int:
    """Bins up to the last that holds anything, 1 at least."""
    return int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
