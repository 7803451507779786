"""How often each magnitude occurs in a tensor, counted exactly in one pass, whatever comes next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.errors import EngineError

BINS = 4096
# Below, the factor from values to bins would overflow float32.
_MIN_EXPONENT = -100
_CHUNK = 1 << 16


def _no_counts() -> npt.NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


@dataclass(slots=True, eq=False)
class Histogram:
    """Histogram of |x|: bin k counts k · top / BINS <= |x| < (k + 1) · top / BINS.

    `top` is the smallest power of two above `largest`. So bins merge exactly as it doubles, no value is rounded on its
    way into one, and the same values give the same histogram in whatever order and pieces they came.

    Attributes:
        counts: int64 (BINS,).
        zeros: how many of bin 0 are exactly 0.
        largest: of all |x|; 0 while there was nothing else.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=_no_counts)
    zeros: int = 0
    largest: float = 0.0

    @property
    def top(self) -> float:
        """Upper edge of the last bin."""
        return math.ldexp(1.0, _exponent(self.largest))

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count more values, float32 of any shape.

        Raises:
            EngineError: one of them is not finite; nothing was counted.
        """
        flat = values.reshape(-1)
        if flat.size == 0:
            return
        largest = max(float(flat.max()), -float(flat.min()))
        if not math.isfinite(largest):
            wrong = float(flat[~np.isfinite(flat)][0])
            raise EngineError(f"a value is {wrong}, not a number to count", "check the network and its input")
        if largest > self.largest:
            self._double(_exponent(largest) - _exponent(self.largest))
            self.largest = largest
        bins_per_unit = np.float32(BINS / self.top)
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            self.zeros += chunk.size - int(np.count_nonzero(chunk))
            self.counts += np.bincount((np.abs(chunk) * bins_per_unit).astype(np.int32), minlength=BINS)

    def _double(self, times: int) -> None:
        """Make room for values 2 ** times as large."""
        merged = 1 << min(times, BINS.bit_length() - 1)
        sums = self.counts.reshape(-1, merged).sum(axis=1)
        self.counts[:] = 0
        self.counts[: len(sums)] = sums


def _exponent(largest: float) -> int:
    """Of the smallest power of two above."""
    return max(math.frexp(largest)[1], _MIN_EXPONENT) if largest else _MIN_EXPONENT
