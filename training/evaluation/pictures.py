"""The pictures of a report: curves, the histogram of scores, parts with their heat maps.

Good is blue, defective is orange and hatched: told apart with any colour vision and in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from edge.frame import Image
from edge.overlay import colour_scale, heat_map, outline
from training.data.labelled import LabelledPart
from training.evaluation.predict import Float
from training.metrics.curve import Curve

GOOD, DEFECTIVE, LIMIT = "#0072b2", "#d55e00", "#333333"
PANEL_PX = 256
_GAP_PX = 8
_SEED_STYLES = ("-", "--", "-.", ":")
_LOG_SPREAD = 30.0  # scores that span more than this are drawn on a logarithmic axis
_PRO_RATE_SHOWN = 0.4


def draw_roc(
    curves: Sequence[tuple[str, Curve]],
    labels: tuple[str, str],
    operating_point: tuple[float, float] | None,
    path: Path,
) -> None:
    """Share found over share of false alarms.

    Args:
        curves: label and curve of each run.
        labels: of the axes, from left to right and upwards.
        operating_point: false alarms and found at the threshold, 0..1 each; None for none.
        path: PNG file to write.
    """
    figure, axes = _square()
    for index, (label, curve) in enumerate(curves):
        style = _SEED_STYLES[index % len(_SEED_STYLES)]
        axes.plot(curve.fpr, curve.height, style, color=DEFECTIVE, linewidth=2, label=label, clip_on=False, zorder=3)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=(0, (1, 3)), label="by chance")
    if operating_point is not None:
        axes.plot(*operating_point, "o", color=LIMIT, markersize=9, label="at the threshold", clip_on=False, zorder=4)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower right")
    _finish(figure, axes, path)


def draw_pro(curves: Sequence[tuple[str, Curve]], path: Path) -> None:
    """Mean share of a defect region that is marked, over the share of defect-free pixels that is; both limits."""
    figure, axes = _square()
    for index, (label, curve) in enumerate(curves):
        style = _SEED_STYLES[index % len(_SEED_STYLES)]
        axes.plot(curve.fpr, curve.height, style, color=DEFECTIVE, linewidth=2, label=label, zorder=3)
    for limit in (0.05, 0.3):
        axes.axvline(limit, color=LIMIT, linestyle="--", linewidth=1)
        axes.text(limit + 0.004, 0.02, f"AUPRO@{limit:g} ends here", rotation=90, ha="left", va="bottom", fontsize=9)
    axes.set(xlabel="defect-free pixels wrongly marked", ylabel="mean share of each defect region marked")
    axes.set(xlim=(0, _PRO_RATE_SHOWN), ylim=(0, 1))
    axes.legend(loc="center", bbox_to_anchor=(0.45, 0.3))
    _finish(figure, axes, path)


def draw_histogram(scores: Float, defective: npt.NDArray[np.bool_], threshold: float | None, path: Path) -> None:
    """Scores of good and of defective images with the threshold.

    Args:
        scores: float32 (N,), N > 0.
        defective: bool (N,).
        threshold: None for none.
        path: PNG file to write.
    """
    figure = Figure(figsize=(6.6, 3.7), layout="constrained")
    axes = figure.subplots()
    shown = scores if threshold is None else np.append(scores, np.float32(threshold))
    low, high = float(shown.min()), float(shown.max())
    is_log = low > 0 and high > _LOG_SPREAD * low
    edges = (np.geomspace if is_log else np.linspace)(low, high if high > low else low + 1, 31)
    if threshold is not None:
        # No bar reaches over the threshold.
        edges[1 + np.abs(edges[1:-1] - threshold).argmin()] = np.float32(threshold)
    for kind, colour, name, hatch in ((~defective, GOOD, "good", ""), (defective, DEFECTIVE, "defective", "////")):
        label = f"{name}: {int(kind.sum())} images"
        axes.hist(scores[kind], edges.tolist(), color=colour, alpha=0.6, edgecolor=colour, hatch=hatch, label=label)
    if threshold is not None:
        axes.axvline(threshold, color=LIMIT, linestyle="--", linewidth=2, label=f"threshold {threshold:.4g}")
    if is_log:
        axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("image score" + (", logarithmic" if is_log else ""))
    axes.set_ylabel("images")
    axes.legend()
    _finish(figure, axes, path)


def draw_part(part: LabelledPart, anomaly_map: Float, pixel_threshold: float, path: Path) -> None:
    """The part, its heat map and the outline of the labelled defect side by side, with the file's aspect ratio.

    Args:
        part: without a mask the third is as the first.
        anomaly_map: float32 (256, 256).
        pixel_threshold: greater than zero.
        path: PNG file to write.
    """
    marked = part.image if part.gt_mask_256 is None else outline(part.image, part.gt_mask_256, line_px=2)
    height_px, width_px = part.original_size_px
    scale = PANEL_PX / max(height_px, width_px)
    size = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    panels = [
        cv2.resize(panel, size, interpolation=cv2.INTER_CUBIC)
        for panel in (part.image, heat_map(part.image, anomaly_map, pixel_threshold), marked)
    ]
    gap = np.full((size[1], _GAP_PX, 3), 255, np.uint8)
    _write_rgb(path, np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))


def draw_colour_scale(path: Path) -> None:
    """What the heat maps' colours mean: from 0 at the left over the pixel threshold in the middle."""
    _write_rgb(path, colour_scale(512, 24))


def _square() -> tuple[Figure, Axes]:
    """Both axes are shares."""
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure, axes


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=110)


def _write_rgb(path: Path, image: Image) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
