"""An evaluation as JSON and as a short table."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from training.evaluation.evaluate import Evaluation
from training.evaluation.limit import Limit
from training.evaluation.predict import LabelledParts
from training.metrics.summary import Summary, over_seeds
from training.provenance import code_version
from training.run import HISTORY, Run

UNDEFINED = "–"


@dataclass(frozen=True, eq=False)
class Result:
    """One run, what it makes of the test images, and where it rejects."""

    run: Run
    evaluation: Evaluation
    limit: Limit


def document(
    results: Sequence[Result], parts: LabelledParts, data: Path, snapshot: int | None, false_reject_rate: float
) -> dict[str, Any]:
    """All there is to know: counts, figures of every run and over the runs, scores of every image, where it came from.

    Figures are in 0..1, undefined ones None.
    """
    first = results[0].evaluation
    return {
        "format": 1,
        "product": results[0].run.record.product,
        "data": str(data),
        "test_images": counts(parts),
        "score_rule": first.score_rule,
        "fusion": first.fusion,
        "snapshot_epoch": snapshot,
        "false_reject_rate": false_reject_rate,
        "figures": over_seeds([result.evaluation.figures for result in results]),
        "runs": [_run(result, parts) for result in results],
        "evaluated_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {
            "code": code_version(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
    }


def counts(parts: LabelledParts) -> dict[str, Any]:
    """Numbers of test images: in total, by defect, and of defective ones whose mask is missing or empty."""
    defective = [part for part in parts.parts if part.defect is not None]
    types = sorted({str(part.defect) for part in defective})
    return {
        "total": len(parts.parts),
        "good": len(parts.parts) - len(defective),
        "defective": len(defective),
        "by_defect": {kind: sum(part.defect == kind for part in defective) for kind in types},
        "defective_without_mask": sum(part.gt_mask is None for part in defective),
        "defective_with_empty_mask": sum(part.gt_mask is not None and not part.gt_mask.any() for part in defective),
    }


def outcome(result: Result, parts: LabelledParts) -> dict[str, int] | None:
    """What the threshold does to the test images; None without one."""
    if result.limit.image is None:
        return None
    rejected, defective = result.evaluation.scores >= result.limit.image, parts.defective
    return {
        "defective": int(defective.sum()),
        "defective_found": int((rejected & defective).sum()),
        "good": int((~defective).sum()),
        "good_rejected": int((rejected & ~defective).sum()),
    }


def epochs_trained(run: Run) -> int | None:
    """How many epochs the training has finished; None where its history is missing."""
    path = run.path / HISTORY
    return len(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def percent(summary: Summary) -> str:
    """Mean of a figure in 0..1 as per cent, with its deviation where there are several runs."""
    mean, std = summary["mean"], summary["std"]
    if not isinstance(mean, float):
        return UNDEFINED
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if isinstance(std, float) else "")


def figure(summary: Mapping[str, Any], *keys: str) -> Summary:
    """A figure's mean and deviation within what `over_seeds` returned."""
    for key in keys:
        summary = summary[key]
    return dict(summary)


def rows(summary: Mapping[str, Any]) -> list[tuple[str | None, Mapping[str, Any]]]:
    """The groups of figures in the order to show them; None names the total."""
    return [(None, summary["total"]), *summary["by_defect"].items()]


def table(summary: Mapping[str, Any]) -> str:
    """A few of the figures in per cent for the terminal."""
    columns = (
        *(("image AUROC", ("image", "auroc")), ("image AP", ("image", "ap"))),
        *(("pixel AUROC", ("pixel_256", "auroc")), ("pixel AP", ("pixel_256", "ap"))),
        *(("AUPRO@0.3", ("pixel_256", "aupro_30")), ("AUPRO@0.05", ("pixel_256", "aupro_05"))),
    )
    lines = [["%, at 256x256", *(name for name, _ in columns)]]
    for group, figures in rows(summary):
        lines.append([group or "all", *(percent(figure(figures, *keys)) for _, keys in columns)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _run(result: Result, parts: LabelledParts) -> dict[str, Any]:
    evaluation = result.evaluation
    return {
        "path": str(result.run.path),
        "seed": result.run.record.settings.seed,
        "epochs_trained": epochs_trained(result.run),
        "figures": evaluation.figures,
        "threshold": asdict(result.limit),
        "at_threshold": outcome(result, parts),
        "images": [
            {"name": part.name, "defect": part.defect, "score": float(score)}
            for part, score in zip(parts.parts, evaluation.scores, strict=True)
        ],
        "record": result.run.record.model_dump(mode="json"),
    }
