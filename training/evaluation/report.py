"""The report for people: `report.html` with its pictures beside it; no script, nothing from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.overlay import FULL_SCALE
from training.evaluation.pictures import draw_colour_scale, draw_histogram, draw_part, draw_pro, draw_roc
from training.evaluation.predict import LabelledParts
from training.evaluation.results import UNDEFINED, Result, epochs_trained, figure, outcome, percent, rows
from training.files import write_text
from training.metrics.curve import Curve
from training.metrics.image import image_roc
from training.pages import fill_template
from training.run import CURVES
from training.thresholds import PIXEL_SHARE

REPORT = "report.html"
WORST_SHOWN = 8
FOUND_SHOWN = 4
_MISSED, _FOUND, _FALSE_ALARM = "missed", "found", "false_alarm"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A part in the report."""

    name: str
    defect: str | None
    score: float
    has_mask: bool
    picture: str


def write_report(directory: Path, results: Sequence[Result], parts: LabelledParts, content: Mapping[str, Any]) -> None:
    """Write the report; pictures are of the first run, curves of all.

    Args:
        directory: exists; pictures of an earlier report in it are replaced.
        results: one per seed.
        parts: what they were evaluated on.
        content: from `training.evaluation.results.document`.
    """
    first = results[0]
    chosen = worst(first, parts)
    draw_colour_scale(directory / "colour_scale.png")
    context = {
        "content": content,
        "record": first.run.record,
        "epochs_trained": epochs_trained(first.run),
        "limit": first.limit,
        "pixel_share": PIXEL_SHARE,
        "outcome": outcome(first, parts),
        "pictures": _draw_charts(directory, results, parts),
        "shown": _draw_parts(directory, first, parts, chosen),
        "tables": _tables(content["figures"], content["test_images"]),
        "error_ratio": _ratio(content["figures"]["total"]["error_ratio"]),
        "seeds": [result.run.record.settings.seed for result in results],
    }
    write_text(directory / REPORT, fill_template(__package__, "report.html.j2", context))


def worst(result: Result, parts: LabelledParts) -> dict[str, list[int]]:
    """Indices of a few images: `missed` defective parts and, barely `found` ones, both from the lowest score upwards;
    `false_alarm`s, good parts that are rejected, from the highest downwards.

    Without a threshold these are the defective parts with the lowest scores, none, and the good ones with the highest.
    """
    scores, threshold, defective = result.evaluation.scores, result.limit.image, parts.defective
    none_found = np.zeros(len(scores), np.bool_)
    rejected = none_found if threshold is None else scores >= threshold
    alarm = ~defective if threshold is None else ~defective & rejected
    upwards = np.argsort(scores, kind="stable")
    return {
        _MISSED: [int(i) for i in upwards if (defective & ~rejected)[i]][:WORST_SHOWN],
        _FOUND: [int(i) for i in upwards if (defective & rejected)[i]][:FOUND_SHOWN],
        _FALSE_ALARM: [int(i) for i in upwards[::-1] if alarm[i]][:WORST_SHOWN],
    }


def _draw_charts(directory: Path, results: Sequence[Result], parts: LabelledParts) -> set[str]:
    """Draw what is defined; returns the file names."""
    first, defective = results[0], parts.defective
    drawn = {"histogram.png"}
    draw_histogram(first.evaluation.scores, defective, first.limit.image, directory / "histogram.png")
    of_images = _by_seed(results, [image_roc(result.evaluation.scores, defective) for result in results])
    if of_images:
        at = outcome(first, parts)
        point = None if at is None else (at["good_rejected"] / at["good"], at["defective_found"] / at["defective"])
        draw_roc(
            of_images, ("good images wrongly rejected", "defective images found"), point, directory / "image_roc.png"
        )
        drawn.add("image_roc.png")
    of_pixels = [result.evaluation.curves for result in results]
    roc = _by_seed(results, [None if curves is None else curves.roc for curves in of_pixels])
    pro = _by_seed(results, [None if curves is None else curves.pro for curves in of_pixels])
    if roc:
        draw_roc(
            roc, ("defect-free pixels wrongly marked", "defective pixels found"), None, directory / "pixel_roc.png"
        )
        draw_pro(pro, directory / "pro.png")
        drawn |= {"pixel_roc.png", "pro.png"}
    source = first.run.path / CURVES
    if source.is_file():
        shutil.copyfile(source, directory / CURVES)
        drawn.add(CURVES)
    return drawn


def _by_seed(results: Sequence[Result], curves: Sequence[Curve | None]) -> list[tuple[str, Curve]]:
    return [
        (f"seed {result.run.record.settings.seed}" if len(results) > 1 else "the detector", curve)
        for result, curve in zip(results, curves, strict=True)
        if curve is not None
    ]


def _draw_parts(
    directory: Path, result: Result, parts: LabelledParts, chosen: Mapping[str, Sequence[int]]
) -> dict[str, list[_Shown]]:
    """Without a pixel threshold, colours end at the highest value of all that is shown."""
    maps, scores, heat_limit = result.evaluation.maps, result.evaluation.scores, result.limit.pixel
    if heat_limit is None:
        heat_limit = max(float(maps[index].max()) for indices in chosen.values() for index in indices) / FULL_SCALE
    shown: dict[str, list[_Shown]] = {}
    for kind, indices in chosen.items():
        for old in directory.glob(f"{kind}_*.png"):
            old.unlink()
        shown[kind] = []
        for number, index in enumerate(indices, 1):
            part, name = parts.parts[index], f"{kind}_{number}.png"
            draw_part(part, maps[index], heat_limit, directory / name)
            shown[kind].append(_Shown(part.name, part.defect, float(scores[index]), part.gt_mask is not None, name))
    return shown


def _tables(summary: Mapping[str, Any], images: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each with a title, the columns' names, and rows of a group's name, its number of defective images, and cells."""
    pixel = {
        **{"AUROC": "auroc", "AP": "ap", "F1-max": "f1_max"},
        **{"AUPRO@0.3": "aupro_30", "AUPRO@0.05": "aupro_05"},
    }
    kinds = (
        ("Whole images: good or defective?", "image", {"AUROC": "auroc", "AP": "ap", "F1-max": "f1_max"}),
        ("Where is the defect? At the network's 256 × 256 pixels", "pixel_256", pixel),
        ("Where is the defect? At the images' own resolution", "pixel_original", pixel),
    )
    return [
        {
            "title": title,
            "columns": list(columns),
            "rows": [
                (
                    group or "all",
                    images["defective"] if group is None else images["by_defect"][group],
                    [percent(figure(figures, key, column)) for column in columns.values()],
                )
                for group, figures in rows(summary)
            ],
        }
        for title, key, columns in kinds
    ]


def _ratio(summary: Mapping[str, float | None]) -> str:
    mean, std = summary["mean"], summary["std"]
    if mean is None:
        return UNDEFINED
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else "")
