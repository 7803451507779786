"""Thresholds from good parts only, by split-conformal prediction.

With n held-out good scores and a limit just above the k-th smallest, a new good part reaches the limit with probability
(n+1−k)/(n+1) at most, whatever the scores' distribution, as long as old and new parts are exchangeable (Vovk et al.,
"Algorithmic Learning in a Random World", 2005). Over all draws of the n parts, the share of good parts that reach it
is distributed as Beta(n+1−k, k) (Vovk, "Conditional validity of inductive conformal predictors", 2012).
"""

from __future__ import annotations

import math

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
        scores: of held-out good parts, (n,), finite, one at least.
        false_reject_rate: in (0, 1).
        data_sha256: of the parts.

    Raises:
        ConfigError: there are no scores, or none that a threshold could lie above.
    """
    n = len(scores)
    if not n:
        raise ConfigError("there are no held-out good parts to fit a threshold to", "hold some out")
    k = min(math.ceil((n + 1) * (1 - false_reject_rate)), n)
    # A part is rejected when its score reaches the limit, so the limit lies just above the k-th score.
    value = float(np.nextafter(np.float32(np.sort(scores)[k - 1]), np.float32(np.inf)))
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"the good parts' scores lead to the threshold {value:g}", "check the images, train again")
    tails = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
    low, high = (float(beta.ppf(tail, n + 1 - k, k)) for tail in tails)
    return Threshold(
        value=value,
        false_reject_rate=false_reject_rate,
        guaranteed_rate=(n + 1 - k) / (n + 1),
        interval=(low, high),
        n=n,
        data_sha256=data_sha256,
    )


def pixel_threshold(
    anomaly_maps: Float, false_reject_rate: float, data_sha256: str, pixel_share: float = PIXEL_SHARE
) -> PixelThreshold:
    """The same for masks: reached by a good part when more than `pixel_share` of its pixels reach it.

    Args:
        anomaly_maps: of held-out good parts, (n, H, W) or (n, pixels), finite.
        false_reject_rate: of parts, in (0, 1).
        data_sha256: of the parts.
        pixel_share: in (0, 1).

    Raises:
        ConfigError: as for `image_threshold`.
    """
    flat = anomaly_maps.reshape(len(anomaly_maps), -1)
    above = math.floor(pixel_share * flat.shape[1])
    place = flat.shape[1] - 1 - above
    largest = np.partition(flat, place, axis=1)[:, place]
    fitted = image_threshold(largest, false_reject_rate, data_sha256)
    return PixelThreshold(**fitted.model_dump(), pixel_share=pixel_share)


def images_needed(false_reject_rate: float) -> int:
    """The smallest number of held-out good parts that can bound this rate."""
    return math.ceil(1 / false_reject_rate) - 1
