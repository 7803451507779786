"""The pictures of a page about a bundle, as PNG: scores, heat maps of several precisions, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edge.frame import Image
from edge.overlay import FULL_SCALE, colour_scale, heat_map
from export.outputs import changed_verdicts
from training.evaluation.pictures import DEFECTIVE, GOOD, LIMIT

Float = npt.NDArray[np.float32]
_GAP_PX = 8
_BINS = 24
_LOG_SPREAD = 30.0  # what spans more than this is drawn on a logarithmic axis


def score_histogram(scores: Float, threshold: float) -> bytes:
    """Scores of good parts, (N,), N > 0, with the threshold; no bar reaches over it."""
    low, high = float(min(scores.min(), threshold)), float(max(scores.max(), threshold))
    width = (high - low) / _BINS or 1.0
    edges = threshold + width * np.arange(np.floor((low - threshold) / width), np.floor((high - threshold) / width) + 2)
    edges[0] = min(edges[0], low)
    figure, axes = _plot()
    axes.hist(scores.astype(np.float64), edges.tolist(), color=GOOD, alpha=0.6, edgecolor=GOOD)
    axes.axvline(threshold, color=LIMIT, linestyle="--", linewidth=2, label=f"threshold {threshold:.4g}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="image score", ylabel="held-out good parts")
    axes.legend()
    return _png(figure, axes)


def score_scatter(reference: Float, other: Float, threshold: float, labels: tuple[str, str]) -> bytes:
    """Scores of the same images by two precisions; those whose verdict differs stand out.

    Args:
        reference: (N,), N > 0, from left to right.
        other: (N,), upwards.
        threshold: of both.
        labels: of the axes.
    """
    figure, axes = _plot(height_in=4.4)
    changed = changed_verdicts(reference, other, threshold)
    shown = np.concatenate([reference, other, [threshold]])
    low, high = float(shown.min()), float(shown.max())
    if low > 0 and high > _LOG_SPREAD * low:
        axes.set(xscale="log", yscale="log")
        low, high = low / 1.2, high * 1.2
    else:
        margin = 0.05 * (high - low) or abs(high) or 1.0
        low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], color="grey", linewidth=1, label="equal")
    for draw in (axes.axvline, axes.axhline):
        draw(threshold, color=LIMIT, linestyle="--", linewidth=1)
    axes.plot([], [], color=LIMIT, linestyle="--", linewidth=1, label=f"threshold {threshold:.4g}")
    axes.plot(reference[~changed], other[~changed], "o", color=GOOD, alpha=0.6, markersize=5, label="same verdict")
    label = f"verdict changes: {int(changed.sum())}"
    axes.plot(reference[changed], other[changed], "X", color=DEFECTIVE, markersize=9, label=label)
    axes.set(xlim=(low, high), ylim=(low, high), xlabel=labels[0], ylabel=labels[1], box_aspect=1)
    axes.legend(loc="upper left", framealpha=1)
    return _png(figure, axes)


def difference(columns: Mapping[str, Float]) -> Float:
    """|last column − first one|."""
    first, *_, last = columns.values()
    return np.asarray(np.abs(last - first))


def fitting_gain(columns: Mapping[str, Float], limit: float) -> int:
    """By what to multiply `difference` so that the colours, which end at FULL_SCALE · limit, just suffice.

    1, 2 or 5 times a power of ten.
    """
    largest = float(difference(columns).max())
    steps = [step * 10**power for power in range(10) for step in (1, 2, 5)]
    return max((step for step in steps if step * largest <= FULL_SCALE * limit), default=1)


def side_by_side(images: Image, columns: Mapping[str, Float], limit: float, gain: int) -> bytes:
    """A row for each image: itself, its heat map by each column, and the amplified difference of last and first.

    Args:
        images: uint8 (K,H,W,3) RGB.
        columns: float32 (K,H,W) each, two at least.
        limit: of pixels; all colours end at FULL_SCALE times this.
        gain: by what the difference is multiplied.

    Returns:
        PNG; columns are equally wide, gaps transparent.
    """
    maps = [*columns.values(), gain * difference(columns)]
    rows = []
    for index, image in enumerate(images):
        panels = [image, *(heat_map(image, each[index], limit) for each in maps)]
        rows.append(_with_gaps([cv2.cvtColor(panel, cv2.COLOR_RGB2RGBA) for panel in panels], axis=1))
    return encode_rgb(_with_gaps(rows, axis=0))


def bars(names: Sequence[str], values: Sequence[float], limit_line: float | None, axis_label: str) -> bytes:
    """A bar for each name, from the top; those that reach the limit are orange and hatched.

    Args:
        names, values: one at least.
        limit_line: None for none.
        axis_label: of the values.
    """
    figure, axes = _plot(height_in=1.2 + 0.32 * len(names))
    reaches = [limit_line is not None and value >= limit_line for value in values]
    drawn = axes.barh(list(names), list(values), color=[DEFECTIVE if each else GOOD for each in reaches], alpha=0.75)
    for bar, is_over in zip(drawn, reaches, strict=True):
        bar.set(hatch="////" if is_over else "", edgecolor=DEFECTIVE if is_over else GOOD)
    if limit_line is not None:
        axes.axvline(limit_line, color=LIMIT, linestyle="--", linewidth=2, label=f"limit {limit_line:.3g}")
        axes.legend()
    axes.invert_yaxis()
    axes.set_xlabel(axis_label)
    return _png(figure, axes)


def heat_colours() -> bytes:
    """What the colours of `side_by_side` mean: from 0 over the limit in the middle to FULL_SCALE times it."""
    return encode_rgb(colour_scale(512, 24))


def encode_rgb(image: Image) -> bytes:
    """PNG of uint8 (H,W,3) RGB, or (H,W,4) with opacity."""
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return bytes(cv2.imencode(".png", cv2.cvtColor(image, order))[1])


def _with_gaps(panels: Sequence[npt.NDArray[np.uint8]], axis: int) -> Image:
    """RGBA panels side by side (axis 1) or below each other (0)."""
    shape = list(panels[0].shape)
    shape[axis] = _GAP_PX
    joined = [each for panel in panels for each in (np.zeros(shape, np.uint8), panel)]
    return np.concatenate(joined[1:], axis=axis)


def _plot(height_in: float = 3.4) -> tuple[Figure, Axes]:
    """As large as a column of the page; letters stay legible on a telephone."""
    figure = Figure(figsize=(4.8, height_in), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Figure, axes: Axes) -> bytes:
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    file = BytesIO()
    figure.savefig(file, dpi=150, metadata={"Software": None})
    return file.getvalue()
