"""The thresholds an evaluation judges by: from the run's own held-out good parts, never from test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge.errors import ConfigError, ImageError
from edge.manifest import Fusion, ScoreRule
from training.data.good_parts import load_good_parts
from training.evaluation.predict import anomaly_maps, image_scores, predict
from training.run import Run
from training.thresholds import image_threshold, pixel_threshold

PIXEL_FALSE_REJECT_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Limit:
    """Where an image counts as defective.

    Attributes:
        image: score from which on a part is rejected; None where there is none.
        pixel: of the heat maps' colours; None where there is none.
        is_guaranteed: whether `image` bounds the false-reject rate of new good parts.
        held_out: number of held-out good parts behind both.
        explanation: what it is, or why there is none; a clause in plain words.
    """

    image: float | None
    pixel: float | None
    is_guaranteed: bool
    held_out: int
    explanation: str


def held_out_limit(
    run: Run,
    data: Path,
    device: torch.device,
    score_rule: ScoreRule,
    fusion: Fusion,
    false_reject_rate: float,
    snapshot: int | None = None,
) -> Limit:
    """Fit thresholds to the held-out good parts, if `data` are those that the run was trained on.

    Args:
        run: trained.
        data: a product's directory.
        device: to compute on.
        score_rule, fusion: with which the test images are scored.
        false_reject_rate: in (0, 1), wanted of new good parts.
        snapshot: as for `predict`.

    Raises:
        ConfigError: a file of the run is missing or damaged.
    """
    settings = run.record.settings
    try:
        good = load_good_parts(data, settings.data, settings.seed)
    except ImageError as error:
        return Limit(None, None, False, 0, f"the training's good parts are not there ({error.problem})")
    if good.sha256 != run.record.data_sha256:
        return Limit(None, None, False, 0, "these data are not those that the detector was trained on")
    if not len(good.held_out):
        return Limit(None, None, False, 0, "the training held no good parts back")
    found = predict(run, list(good.held_out), device, snapshot)
    maps = anomaly_maps(found, fusion)
    scores = image_scores(maps, score_rule)
    count = len(scores)
    pixel = pixel_threshold(maps if found.counted is None else maps[:, found.counted], PIXEL_FALSE_REJECT_RATE)
    try:
        image = image_threshold(scores, false_reject_rate)
    except ConfigError:
        # Not an error here: the report says that nothing is guaranteed.
        highest = float(np.nextafter(scores.max(), np.float32(np.inf)))
        explanation = (
            f"just above the largest of {count} held-out good scores "
            f"(too few for a guarantee of at most {100 * false_reject_rate:.3g} % false alarms)"
        )
        return Limit(highest, pixel, False, count, explanation)
    explanation = (
        f"from {count} held-out good parts: at most {100 * false_reject_rate:.3g} % of new good parts reach it"
    )
    return Limit(image, pixel, True, count, explanation)
