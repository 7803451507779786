"""A curve over the false-positive rate: its mean height up to a limit, and the few points that a plot needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A polyline from (0, 0) to false-positive rate 1 that never falls.

    Attributes:
        fpr: float64 (K,), 0..1, false-positive rate; points one above the other are a vertical rise.
        height: float64 (K,), 0..1, share found at that rate.
    """

    fpr: Float64
    height: Float64

    def mean_height(self, limit: float = 1.0) -> float:
        """Area from 0 up to a false-positive rate in (0, 1], by trapezoids, divided by that rate.

        The height at the limit is interpolated linearly between the points on either side.
        """
        beyond = int(np.searchsorted(self.fpr, limit))
        (x0, x1), (y0, y1) = self.fpr[beyond - 1 : beyond + 1], self.height[beyond - 1 : beyond + 1]
        at_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        return float(auc(np.append(self.fpr[:beyond], limit), np.append(self.height[:beyond], at_limit))) / limit

    def thinned(self, max_points: int = 1000) -> Curve:
        """At most that many of the points (two or more), both ends among them, evenly along the curve."""
        travelled = self.fpr + self.height
        index = np.unique(np.searchsorted(travelled, np.linspace(0, travelled[-1], max_points)))
        return Curve(self.fpr[index], self.height[index])
