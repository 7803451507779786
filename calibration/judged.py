"""The pictures that INT8 is judged on, apart from those its ranges come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.evidence import Evidence
from calibration.images import MIN_IMAGES, data_settings
from edge.errors import ImageError
from edge.frame import Image
from edge.manifest import Preprocessing
from export.outputs import Outputs
from training.data.labelled import read_labelled
from training.image_sets import evenly
from training.synthetic import with_defects

MAX_CALIBRATION, MAX_JUDGED, FEW = 128, 48, 8
SEED = 1


def split(images: Image) -> tuple[Image, Image]:
    """Good parts to calibrate on and others to judge by; with fewer than twice the least number, all for both."""
    if len(images) < 2 * MIN_IMAGES:
        return images, images
    judged = np.zeros(len(images), np.bool_)
    judged[evenly(len(images), min(MAX_JUDGED, len(images) // 2))] = True
    rest = images[~judged]
    return rest[evenly(len(rest), MAX_CALIBRATION)], images[judged]


def with_synthetic_defects(good: Image) -> tuple[Image, Image]:
    """Good parts followed by the same with defects drawn onto them, uint8 (2n,256,256,3), and masks (2n,256,256)."""
    damaged, masks = with_defects(good, SEED)
    return np.concatenate([good, damaged]), np.concatenate([np.zeros_like(masks), masks])


def with_labelled_defects(good: Image, directory: Path, settings: Preprocessing) -> tuple[Image, Image]:
    """Good parts followed by a product's labelled ones, those without a mask left out.

    Raises:
        ImageError: there are no masks, or an image cannot be read.
    """
    parts = [part for part in read_labelled(directory, data_settings(settings)) if part.gt_mask_256 is not None]
    if not any(part.defect for part in parts):
        raise ImageError(f"'{directory}' has no labelled defects with masks", "leave out --labelled")
    masks = [part.gt_mask_256 for part in parts if part.gt_mask_256 is not None]
    blank = np.zeros(good.shape[:3], np.uint8)
    return np.concatenate([good, np.stack([part.image for part in parts])]), np.concatenate([blank, np.stack(masks)])


def some(evidence: Evidence) -> Evidence:
    """A few of its images, good and defective, for what is measured often."""
    defective = evidence.masks.any(axis=(1, 2))
    kinds = (np.flatnonzero(which) for which in (~defective, defective))
    chosen = np.concatenate([kind[evenly(len(kind), FEW)] for kind in kinds])
    reference = Outputs(evidence.reference.maps[chosen], evidence.reference.scores[chosen])
    return Evidence(evidence.images[chosen], evidence.masks[chosen], reference, evidence.threshold)
