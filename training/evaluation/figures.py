"""The figures of one run, in total and per defect type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import cv2
import numpy as np

from training.data.labelled import LabelledPart
from training.data.settings import INPUT_SIZE_PX
from training.evaluation.predict import Float, LabelledParts, SmallMaps
from training.metrics.image import ImageMetrics, image_metrics
from training.metrics.pixel import PixelCurves, PixelMetrics, pixel_metrics
from training.metrics.summary import Figure

Figures = dict[str, Figure]
Group = str | None
"""A defect type, whose images are taken together with all good ones; None for all images."""


def groups(parts: Sequence[LabelledPart]) -> dict[Group, list[int]]:
    """Indices of each group's images."""
    types = sorted({part.defect for part in parts if part.defect is not None})
    indices: dict[Group, list[int]] = {None: list(range(len(parts)))}
    return indices | {kind: [i for i, part in enumerate(parts) if part.defect in (None, kind)] for kind in types}


def image_figures(parts: LabelledParts, scores: Float) -> dict[Group, Figures]:
    """AUROC, AP and F1-max of each group's images."""
    defective = parts.defective
    return {
        name: _figures(image_metrics(scores[indices], defective[indices]))
        for name, indices in groups(parts.parts).items()
    }


def pixel_figures_256(
    parts: LabelledParts, maps: Float, found: SmallMaps
) -> tuple[dict[Group, Figures], PixelCurves | None]:
    """Pixel and region figures of each group at the network's size, and the curves of all images.

    Defective images without a mask are left out.
    """
    measured = {}
    for name, indices in _masked(parts).items():
        masks = [mask for i in indices if (mask := parts.parts[i].gt_mask_256) is not None]
        measured[name] = pixel_metrics((maps[i] for i in indices), masks, found.counted)
    return {name: _figures(metrics) for name, (metrics, _) in measured.items()}, measured[None][1]


def pixel_figures_original(parts: LabelledParts, maps: Float) -> dict[Group, Figures]:
    """The same at the files' resolution, the maps resized bilinearly.

    Pixels whose cell overlaps with what is not judged are 0 in the maps, yet count unless they are ignored themselves.
    """
    figures = {}
    for name, indices in _masked(parts).items():
        masks = [mask for i in indices if (mask := parts.parts[i].gt_mask) is not None]
        figures[name] = _figures(pixel_metrics(_resized(parts, maps, indices), masks, parts.counted)[0])
    return figures


def has_network_size(parts: LabelledParts) -> bool:
    """Whether the files are 256x256 themselves, so that both resolutions are one."""
    return all(part.original_size_px == INPUT_SIZE_PX for part in parts.parts)


def error_ratio(parts: LabelledParts, found: SmallMaps) -> float | None:
    """How much worse defects are reconstructed than the rest: a ratio of mean squared errors of features.

    The errors are the first 64×64 maps before smoothing, of all test images but defective ones without a mask. A
    position is defective where the pixel of the 256×256 mask nearest to it is, the corners of both grids lying on each
    other, and left out where that pixel is not judged. None without positions of both kinds.
    """
    indices = _masked(parts)[None]
    nearest = np.rint(np.linspace(0, INPUT_SIZE_PX[0] - 1, found.maps.shape[-1])).astype(int)
    masks = [mask for i in indices if (mask := parts.parts[i].gt_mask_256) is not None]
    grid = np.ix_(nearest, nearest)
    counted = np.ones(INPUT_SIZE_PX, np.bool_) if found.counted is None else found.counted
    defective = np.array([mask[grid][counted[grid]] > 0 for mask in masks])
    errors = found.maps[0][indices][:, counted[grid]].astype(np.float64)
    if not defective.any() or defective.all():
        return None
    return float(errors[defective].mean() / errors[~defective].mean())


def _masked(parts: LabelledParts) -> dict[Group, list[int]]:
    """`groups` without the defective images that have no mask."""
    return {
        name: [i for i in indices if parts.parts[i].gt_mask is not None]
        for name, indices in groups(parts.parts).items()
    }


def _resized(parts: LabelledParts, maps: Float, indices: Sequence[int]) -> Iterator[Float]:
    """One at a time, because all of them would take much memory."""
    for index in indices:
        height_px, width_px = parts.parts[index].original_size_px
        resized = cv2.resize(maps[index], (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        yield np.asarray(resized, np.float32)


def _figures(metrics: ImageMetrics | PixelMetrics) -> Figures:
    """Without the threshold of the largest F1: it comes from test images and must not be used."""
    return {name: value for name, value in asdict(metrics).items() if name != "f1_threshold"}
