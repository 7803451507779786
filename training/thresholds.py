"""Thresholds from good parts only, by split-conformal prediction.

With n held-out good scores and a limit just above the k-th smallest, a new good part reaches the limit with probability
(n+1−k)/(n+1) at most, whatever the scores' distribution, as long as old and new parts are exchangeable (Vovk et al.,
"Algorithmic Learning in a Random World", 2005). Over all draws of the n parts, the share of good parts that reach it
is distributed as Beta(n+1−k, k) (Vovk, "Conditional validity of inductive conformal predictors", 2012).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from edge.errors import ConfigError
from edge.manifest import PixelThreshold, Threshold

Float = npt.NDArray[np.float32]
INTERVAL = 0.9
PIXEL_SHARE = 1e-3


def image_threshold(scores: Float, false_reject_rate: float, data_sha256: str) -> Threshold:
    """The smallest limit that a new good part reaches with probability `false_reject_rate` at most.

    Where n is too small for that, the limit lies just above the largest score and guarantees 1/(n+1) instead.

    Args:
        scores: of held-out good parts, (n,), one at least.
        false_reject_rate: in (0, 1).
        data_sha256: of the parts.

    Raises:
        ConfigError: there are no scores, one is not finite, or the limit would be 0.
    """
    n = len(scores)
    if not n:
        raise ConfigError("there are no held-out good parts to fit a threshold to", "hold some out")
    if not np.isfinite(scores).all():
        raise ConfigError("a held-out good part's score is not a finite number", "check the images, train again")
    above = max(_floor_of_share(n + 1, false_reject_rate), 1)
    k = n + 1 - above
    kth = np.float32(np.sort(scores)[k - 1])
    if kth <= 0:
        raise ConfigError(f"the good parts' scores lead to the threshold {kth:g}", "check the images, train again")
    tails = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    low, high = (float(beta.ppf(tail, above, k)) for tail in tails)
    return Threshold(
        # A part is rejected when its score reaches the limit, so the limit lies just above the k-th score.
        value=float(np.nextafter(kth, np.float32(np.inf))),
        false_reject_rate=false_reject_rate,
        guaranteed_rate=above / (n + 1),
        interval=(low, high),
        n=n,
        data_sha256=data_sha256,
    )


def pixel_threshold(
    anomaly_maps: Float, false_reject_rate: float, data_sha256: str, pixel_share: float = PIXEL_SHARE
) -> PixelThreshold:
    """The same for masks: reached by a good part when more than `pixel_share` of its pixels reach it.

    Args:
        anomaly_maps: of held-out good parts, (n, H, W) or (n, pixels).
        false_reject_rate: of parts, in (0, 1).
        data_sha256: of the parts.
        pixel_share: in (0, 1).

    Raises:
        ConfigError: as for `image_threshold`.
    """
    pixels = anomaly_maps[0].size if len(anomaly_maps) else 1
    place = pixels - 1 - _floor_of_share(pixels, pixel_share)
    scores = [np.partition(anomaly_map, place, axis=None)[place] for anomaly_map in anomaly_maps]
    fitted = image_threshold(np.array(scores, np.float32), false_reject_rate, data_sha256)
    return PixelThreshold(**fitted.model_dump(), pixel_share=pixel_share)


def images_needed(false_reject_rate: float) -> int:
    """The smallest number of held-out good parts that can bound this rate."""
    return math.ceil(1 / _exact(false_reject_rate)) - 1


def _floor_of_share(count: int, share: float) -> int:
    return math.floor(count * _exact(share))


def _exact(share: float) -> Fraction:
    """What was written: in floating point 0.07 of 100 are 7.000000000000001 and 0.29 of 100 are 28.999999999999996."""
    return Fraction(repr(float(share)))
