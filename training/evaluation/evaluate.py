"""Evaluating runs: one, several fusions and score rules of one from a single pass, or several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edge.errors import ConfigError
from edge.manifest import ScoreRule
from training.evaluation.figures import (
    Figures,
    Group,
    error_ratio,
    has_network_size,
    image_figures,
    pixel_figures_256,
    pixel_figures_original,
)
from training.evaluation.predict import Float, LabelledParts, anomaly_maps, image_scores, predict
from training.metrics.pixel import PixelCurves
from training.run import Run


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run's detector makes of the test images.

    Attributes:
        score_rule, fusion: with which.
        maps: float32 (N, 256, 256).
        scores: float32 (N,).
        figures: `total` and, within `by_defect`, each defect type's; in them `image`, `pixel_256`, `pixel_original`
            with figures in 0..1, None where undefined. `total` has `error_ratio` as well.
        curves: of all images' pixels at 256×256; None where undefined.
    """

    score_rule: ScoreRule
    fusion: str
    maps: Float
    scores: Float
    figures: Figures
    curves: PixelCurves | None


def evaluate_run(
    run: Run,
    parts: LabelledParts,
    device: torch.device,
    score_rule: ScoreRule | None = None,
    fusion: str | None = None,
    snapshot: int | None = None,
) -> Evaluation:
    """Evaluate one run.

    Args:
        run: trained.
        parts: from `read_parts` with the run's own data settings.
        device: to compute on.
        score_rule, fusion: None takes what the run's settings say.
        snapshot: the epoch whose weights are taken, from 1; None for the result.

    Raises:
        ConfigError: a file of the run is missing or damaged.
    """
    settings = run.record.settings
    variant = score_rule or settings.score_rule, fusion or settings.network.fusion
    return evaluate_variants(run, parts, device, [variant], snapshot)[0]


def evaluate_variants(
    run: Run,
    parts: LabelledParts,
    device: torch.device,
    variants: Sequence[tuple[ScoreRule, str]],
    snapshot: int | None = None,
    at_original: bool = True,
) -> list[Evaluation]:
    """`evaluate_run` for several score rules and fusions, with one pass of the network and one of each fusion.

    Without `at_original` there is no `pixel_original`, which for large images takes longest.
    """
    found = predict(run, parts.images, device, snapshot)
    ratio = error_ratio(parts, found)
    evaluations: dict[tuple[ScoreRule, str], Evaluation] = {}
    for fusion in dict.fromkeys(fusion for _, fusion in variants):
        maps = anomaly_maps(found, fusion)
        small, curves = pixel_figures_256(parts, maps, found)
        pixel = {group: {"pixel_256": of} for group, of in small.items()}
        if at_original:
            large = small if has_network_size(parts) else pixel_figures_original(parts, maps)
            pixel = {group: of | {"pixel_original": large[group]} for group, of in pixel.items()}
        for rule in [rule for rule, of in variants if of == fusion]:
            scores = image_scores(maps, rule)
            by_group: dict[Group, Figures] = {
                group: {"image": image, **pixel[group]} for group, image in image_figures(parts, scores).items()
            }
            figures: Figures = {
                "total": by_group[None] | {"error_ratio": ratio},
                "by_defect": {group: of for group, of in by_group.items() if group is not None},
            }
            evaluations[rule, fusion] = Evaluation(rule, fusion, maps, scores, figures, curves)
    return [evaluations[variant] for variant in variants]


def refuse_different(runs: Sequence[Run]) -> None:
    """Runs whose figures become one mean may differ in their seed alone, and must.

    Raises:
        ConfigError: names the first difference.
    """
    first = _decisive(runs[0])
    for run in runs[1:]:
        for name, value in _decisive(run).items():
            if value != first[name]:
                raise ConfigError(
                    f"'{run.path}' differs from '{runs[0].path}' in more than the seed: "
                    f"its {name} is {value}, not {first[name]}",
                    "evaluate them one by one",
                )
    seeds = [run.record.settings.seed for run in runs]
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            raise ConfigError(
                f"'{runs[index].path}' and '{runs[seeds.index(seed)].path}' have the same seed {seed}",
                "give each seed once",
            )


def _decisive(run: Run) -> dict[str, Any]:
    record = run.record
    settings = record.settings.model_dump(mode="json", exclude={"seed", "network", "data"})
    network = record.settings.network.model_dump(mode="json")
    data = record.settings.data.model_dump(mode="json")
    return settings | network | data | {"data_sha256": record.data_sha256, "backbone_weights": record.backbone_weights}
