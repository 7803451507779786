"""Thresholds from good parts only.

Image: split-conformal (Vovk et al., "Algorithmic Learning in a Random World", 2005). With n held-out good scores and
the k = ceil((n+1)(1−a)) smallest as the limit, a new good part lies above with probability at most a, whatever the
scores' distribution, as long as old and new parts are exchangeable.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError

Float = npt.NDArray[np.float32]


def image_threshold(scores: Float, false_reject_rate: float) -> float:
    """The smallest limit that a new good part reaches with probability `false_reject_rate` at most.

    Args:
        scores: of held-out good parts, (n,), finite.
        false_reject_rate: in (0, 1).

    Raises:
        ConfigError: n is too small for that rate.
    """
    n = len(scores)
    k = math.ceil((n + 1) * (1 - false_reject_rate))
    if k > n:
        needed = math.ceil(1 / false_reject_rate) - 1
        raise ConfigError(
            f"{n} good parts cannot bound a false-reject rate of {false_reject_rate}", f"hold out at least {needed}"
        )
    # A part is rejected when its score reaches the limit, so the limit lies just above the k-th score.
    return float(np.nextafter(np.float32(np.sort(scores)[k - 1]), np.float32(np.inf)))


def pixel_threshold(anomaly_maps: Float, false_reject_rate: float) -> float:
    """The quantile of all good pixels above which the share `false_reject_rate` lies.

    Pixels of one map are not independent: this is a plain quantile, no guarantee.

    Args:
        anomaly_maps: of held-out good parts, (n, H, W), finite.
        false_reject_rate: in (0, 1).
    """
    flat = anomaly_maps.reshape(-1)
    above = max(1, round(false_reject_rate * flat.size))
    return float(np.partition(flat, flat.size - above)[flat.size - above])
