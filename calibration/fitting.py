"""Both thresholds from held-out good parts, and what else in a bundle depends on them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.images import data_settings
from edge.bundle import Bundle
from edge.engines.golden import bound_ring, check_golden
from edge.engines.ort import OrtEngine
from edge.errors import ImageError
from edge.frame import Image
from edge.manifest import Manifest, Precision
from export.outputs import Float, Outputs, run_onnx
from training.data.good_parts import good_parts_sha256
from training.data.labelled import read_labelled
from training.image_sets import images_sha256
from training.thresholds import image_threshold, pixel_threshold

MAX_PARITY_IMAGES = 200


@dataclass(frozen=True, slots=True)
class LabelledScores:
    """Image scores of test parts, (N,) and (M,)."""

    defective: Float
    good: Float


def refuse_seen(directory: Path, images: Image, manifest: Manifest) -> None:
    """Good parts that a network knows score lower than new ones: no threshold may come from them.

    A manifest knows whole sets only: some of the known images among others are not recognised.

    Args:
        directory: where the images are from.
        images: uint8 (N, 256, 256, 3), as `read_images` gave them.
        manifest: the bundle's.

    Raises:
        ImageError: the images are those that the network was trained on, or that INT8 was calibrated on.
    """
    remedy = "give pictures of good parts that were held out"
    sha256 = images_sha256(images)
    # A training on a product hashed its images under the names that they have below the product's directory.
    root = Path(os.path.abspath(directory))
    root = root.parents[1] if root.parts[-2:] == ("train", "good") else root
    if manifest.provenance.train_data_sha256 in {sha256, good_parts_sha256(root)}:
        raise ImageError(f"the network was trained on the images in '{directory}'", remedy)
    for precision, variant in manifest.variants.items():
        if variant.quantisation is not None and variant.quantisation.data_sha256 == sha256:
            raise ImageError(f"the {precision} variant was calibrated on the images in '{directory}'", remedy)


def fit(bundle: Bundle, images: Image, false_reject_rate: float, pixel_share: float) -> Manifest:
    """The bundle's manifest with new thresholds; the variants' parities name the threshold they were measured at.

    Args:
        bundle: its fp32 variant decides.
        images: uint8 (N, 256, 256, 3), held-out good parts.
        false_reject_rate, pixel_share: in (0, 1).

    Raises:
        BundleError: there is no fp32 variant.
        ConfigError: the scores allow no threshold.
        EngineError: ONNX Runtime contradicts the golden vectors, or gives what is no number.
    """
    with closing(OrtEngine(bundle, "fp32", threads=None)) as engine:
        check_golden(engine, bundle, "fp32", bound_ring(engine, bundle))
    found, sha256 = _run(bundle, "fp32", images), images_sha256(images)
    return bundle.manifest.model_copy(
        update={
            "image_threshold": image_threshold(found.scores, false_reject_rate, sha256),
            "pixel_threshold": pixel_threshold(found.maps, false_reject_rate, sha256, pixel_share),
        }
    )


def score_labelled(bundle: Bundle, directory: Path) -> LabelledScores:
    """The fp32 variant's scores of a product's test images.

    Raises:
        ImageError: no layout fits, there are no test images, or one cannot be used.
    """
    parts = read_labelled(directory, data_settings(bundle.manifest.preprocessing))
    images, defects = zip(*((part.image, part.defect) for part in parts), strict=True)
    scores = _run(bundle, "fp32", np.stack(images)).scores
    is_defective = np.array([defect is not None for defect in defects])
    return LabelledScores(scores[is_defective], scores[~is_defective])


def _run(bundle: Bundle, precision: Precision, images: Image) -> Outputs:
    return run_onnx(bundle.path / bundle.variant(precision).file, images, precision)
