"""Labelled test images, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge.errors import ImageError
from edge.frame import Image
from training.data.images import read_gt_mask, read_ignore_mask, read_input
from training.data.layouts import find_layout, labelled_images
from training.data.settings import INPUT_SIZE_PX, DataSettings


@dataclass(frozen=True, eq=False)
class LabelledPart:
    """A test image as the network sees it, and what is wrong with the part.

    Attributes:
        name: path below the product's directory.
        defect: None for a good part.
        image: uint8 (256, 256, 3) RGB.
        gt_mask: uint8 (h, w), 1 where defective, at the file's resolution; zeros for a good part, None for a defective
            one without a mask.
        gt_mask_256: the same by nearest neighbour at the network's size, uint8 (256, 256), as is usual in published
            evaluations: a defect narrower than a cell can vanish.
        original_size_px: (h, w) of the region of interest in the file, of the whole image without one.
    """

    name: str
    defect: str | None
    image: Image
    gt_mask_256: Image | None
    gt_mask: Image | None
    original_size_px: tuple[int, int]


def read_labelled(root: Path, settings: DataSettings) -> Iterator[LabelledPart]:
    """A product's test images in the order of their paths, each read when it is asked for.

    Raises:
        ImageError: no layout fits, there are no test images, or an image or mask cannot be used.
    """
    layout = find_layout(root)
    samples = labelled_images(layout)
    if not samples:
        raise ImageError(f"'{layout.root}' has no test images", "give a product with labelled images")
    ignore_mask = read_ignore_mask(settings)
    for sample in samples:
        image, size_px = read_input(sample.path, settings, ignore_mask)
        has_truth = sample.defect is None or len(sample.mask_paths) > 0
        gt_mask = read_gt_mask(sample.mask_paths, size_px, settings.roi_xywh) if has_truth else None
        yield LabelledPart(
            name=sample.path.relative_to(layout.root).as_posix(),
            defect=sample.defect,
            image=image,
            gt_mask_256=None if gt_mask is None else _nearest(gt_mask),
            gt_mask=gt_mask,
            original_size_px=size_px if settings.roi_xywh is None else (settings.roi_xywh[3], settings.roi_xywh[2]),
        )


def _nearest(mask: Image) -> Image:
    height_px, width_px = INPUT_SIZE_PX
    return np.asarray(cv2.resize(mask, (width_px, height_px), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
