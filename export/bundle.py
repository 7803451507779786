"""Make the directory that a station loads, and refuse to when it does not compute what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import torch

from edge.bundle import GoldenVectors, hash_files, write_manifest
from edge.engines.golden import compare_golden
from edge.errors import RefusedError
from edge.frame import Image
from edge.manifest import (
    SCHEMA_VERSION,
    Golden,
    Manifest,
    Normalisation,
    Parity,
    Precision,
    Preprocessing,
    Provenance,
    ScoreRule,
    Variant,
)
from export.half import to_half
from export.onnx_graph import weights_dtype
from export.outputs import Outputs, measure_parity, run_onnx, run_torch
from export.pictures import encode_rgb
from export.to_onnx import OPSET, write_onnx
from training.image_sets import images_sha256
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from training.networks.detector import Detector
from training.thresholds import image_threshold, pixel_threshold

GOLDEN, TEMPLATE = "golden.npz", "template.png"
# Other devices and versions round otherwise than this one.
TOLERANCE_MARGIN = 3.0


@dataclass(frozen=True)
class Identity:
    """Names that a bundle states, and how the detector makes a score of an image."""

    name: str
    version: str
    detector: str
    preset: str
    backbone: str
    score_rule: ScoreRule
    fusion: str
    preprocessing: Preprocessing


@dataclass(frozen=True, eq=False)
class Material:
    """The images an export needs, uint8 (…,256,256,3) RGB.

    Attributes:
        template: (256,256,3), kept for people to look at.
        held_out: (n,256,256,3), good parts that no training saw; the thresholds come from all of them.
        compared: (m,256,256,3), what the variants are compared on: good parts, then the same with synthetic defects.
        golden: (K,256,256,3), inputs of the golden vectors.
    """

    template: Image
    held_out: Image
    compared: Image
    golden: Image


@dataclass(frozen=True)
class Limits:
    """What a variant may differ from what it was made of.

    Attributes:
        map_error, score_error: as in `edge.manifest.Parity`.
        flip_share: of the images, verdicts that change.
        map_tolerance: least tolerance on golden vectors, whatever was measured here.
    """

    map_error: float
    score_error: float
    flip_share: float
    map_tolerance: float


LIMITS = MappingProxyType({"fp32": Limits(1e-3, 1e-3, 0.0, 1e-3), "fp16": Limits(2e-2, 1e-2, 0.005, 1e-2)})


@dataclass(frozen=True, eq=False)
class Made:
    """What an export wrote: every variant's answers to the compared images, PyTorch's first; fp32's to the held-out."""

    manifest: Manifest
    answers: dict[str, Outputs]
    held_out: Outputs


def model_file(precision: Precision) -> str:
    """Name of a variant's file."""
    return f"model.{precision}.onnx"


def write_bundle(
    out: Path,
    graph: Detector,
    material: Material,
    identity: Identity,
    provenance: Provenance,
    precisions: Sequence[Precision],
    false_reject_rate: float,
    pixel_share: float,
) -> Made:
    """Export the graph, fit its thresholds, prove the variants and write everything with its hashes.

    Args:
        out: an empty directory.
        graph: in eval mode.
        material: images.
        identity, provenance: what the manifest says of it.
        precisions: fp32, and fp16 if it is wanted.
        false_reject_rate: of good parts, for both thresholds.
        pixel_share: of a good part's pixels.

    Raises:
        RefusedError: a variant differs too much.
        ConfigError: no threshold can be fitted.
    """
    write_onnx(graph, out / model_file("fp32"))
    if "fp16" in precisions:
        half = to_half(onnx.load(out / model_file("fp32")))
        (out / model_file("fp16")).write_bytes(half.SerializeToString(deterministic=True))
    (out / TEMPLATE).write_bytes(encode_rgb(material.template))
    golden = _write_golden(out, graph, material.golden)
    fitted_on = images_sha256(material.held_out)
    good = run_onnx(out / model_file("fp32"), material.held_out, "held-out good parts")
    limit = image_threshold(good.scores, false_reject_rate, fitted_on)
    names = ["PyTorch", *precisions]
    answers = {"PyTorch": run_torch(graph, material.compared, "PyTorch")}
    variants: dict[Precision, Variant] = {}
    for before, precision in zip(names, precisions, strict=False):
        answers[precision] = run_onnx(out / model_file(precision), material.compared, precision)
        parity = measure_parity(answers[before], answers[precision], before, limit.value, fitted_on)
        _refuse_too_different(precision, parity)
        variants[precision] = _variant(out, precision, golden, parity)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=identity.name,
        version=identity.version,
        detector=identity.detector,
        preset=identity.preset,
        backbone=identity.backbone,
        preprocessing=identity.preprocessing,
        normalisation=Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD),
        score_rule=identity.score_rule,
        fusion=identity.fusion,
        image_threshold=limit,
        pixel_threshold=pixel_threshold(good.maps, false_reject_rate, fitted_on, pixel_share),
        template=TEMPLATE,
        golden=Golden(file=GOLDEN, reference=f"PyTorch {torch.__version__} float32 on the CPU"),
        variants=variants,
        provenance=provenance,
        files=dict(hash_files(out, [*(v.file for v in variants.values()), TEMPLATE, GOLDEN])),
    )
    write_manifest(out, manifest)
    return Made(manifest, answers, good)


def _write_golden(out: Path, graph: Detector, images: Image) -> GoldenVectors:
    answers = run_torch(graph, images, "golden vectors")
    golden = GoldenVectors(images, answers.maps, answers.scores)
    np.savez_compressed(out / GOLDEN, image=images, anomaly_map=answers.maps, score=answers.scores)
    return golden


def _refuse_too_different(precision: Precision, parity: Parity) -> None:
    limits = LIMITS[precision]
    allowed_flips = int(limits.flip_share * parity.images)
    computes_the_same = parity.map_error <= limits.map_error and parity.score_error <= limits.score_error
    if computes_the_same and parity.flips <= allowed_flips:
        return
    remedy = "report it with the versions of torch, onnx and onnxruntime"
    if computes_the_same:
        remedy = "the scores lie too close together for any rounding: train for longer"
    raise RefusedError(
        f"{precision} differs from {parity.reference}: maps by {parity.map_error:.2%} (limit "
        f"{limits.map_error:.2%}), scores by {parity.score_error:.2%} ({limits.score_error:.2%}), "
        f"{parity.flips} of {parity.images} verdicts ({allowed_flips})",
        f"nothing was exported; {remedy}",
    )


def _variant(out: Path, precision: Precision, golden: GoldenVectors, parity: Parity) -> Variant:
    answers = run_onnx(out / model_file(precision), golden.image, "golden vectors")
    found = compare_golden(answers.maps, answers.scores, golden)
    least = LIMITS[precision].map_tolerance
    return Variant(
        file=model_file(precision),
        opset=OPSET,
        weights_dtype=weights_dtype(onnx.load(out / model_file(precision))),
        map_tolerance=max(TOLERANCE_MARGIN * found.map_error, least),
        score_tolerance=max(TOLERANCE_MARGIN * found.score_error, least),
        parity=parity,
    )
