"""The thresholds an evaluation judges by: from the run's own held-out good parts, never from test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from edge.errors import ImageError
from edge.manifest import ScoreRule
from training.data.good_parts import load_good_parts
from training.evaluation.predict import anomaly_maps, image_scores, predict
from training.run import Run
from training.thresholds import PIXEL_SHARE, image_threshold, images_needed, pixel_threshold


@dataclass(frozen=True, slots=True)
class Limit:
    """Where an image counts as defective.

    Attributes:
        image: score from which on a part is rejected; None where there is none.
        pixel: of the heat maps' colours; a part reaches it when more than PIXEL_SHARE of its pixels do; None where
            there is none.
        guaranteed_rate: probability that a new good part reaches `image`, and that it reaches `pixel`, at most; None
            where there is none.
        is_guaranteed: whether that is no more than what was asked for.
        held_out: number of held-out good parts behind both.
        explanation: what it is, or why there is none; a clause in plain words.
    """

    image: float | None
    pixel: float | None
    guaranteed_rate: float | None
    is_guaranteed: bool
    held_out: int
    explanation: str


def held_out_limit(
    run: Run,
    data: Path,
    device: torch.device,
    score_rule: ScoreRule,
    fusion: str,
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
        ConfigError: a file of the run is missing or damaged, or the scores allow no threshold.
    """
    settings = run.record.settings
    try:
        good = load_good_parts(data, settings.data, settings.seed)
    except ImageError as error:
        return _none(f"the training's good parts are not there ({error.problem})")
    if good.sha256 != run.record.data_sha256:
        return _none("these data are not those that the detector was trained on")
    if not len(good.held_out):
        return _none("the training held no good parts back")
    found = predict(run, list(good.held_out), device, snapshot)
    maps = anomaly_maps(found, fusion)
    counted = maps if found.counted is None else maps[:, found.counted]
    image = image_threshold(image_scores(maps, score_rule), false_reject_rate, good.sha256)
    pixel = pixel_threshold(counted, false_reject_rate, good.sha256, PIXEL_SHARE)
    is_guaranteed = image.guaranteed_rate <= false_reject_rate
    low, high = image.interval
    explanation = (
        f"from {image.n} held-out good parts: on average at most {100 * image.guaranteed_rate:.3g} % of new good parts "
        f"reach it, 90 % interval {100 * low:.2g} to {100 * high:.2g} %"
    )
    if not is_guaranteed:
        needed = images_needed(false_reject_rate)
        explanation += f" ({100 * false_reject_rate:.3g} % were asked for, which takes {needed} held-out good parts)"
    return Limit(image.value, pixel.value, image.guaranteed_rate, is_guaranteed, image.n, explanation)


def _none(explanation: str) -> Limit:
    return Limit(None, None, None, False, 0, explanation)
