"""Make the directory that a station loads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch

from edge.bundle import hash_files, write_manifest
from edge.frame import Image
from edge.manifest import Golden, Manifest, Normalisation, Provenance, ScoreRule, Threshold, Variant
from export.to_onnx import OPSET, write_onnx
from training.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from training.networks.detector import Detector
from training.rendered import PREPROCESSING
from training.thresholds import image_threshold, pixel_threshold

Float = npt.NDArray[np.float32]
MODEL_FP32 = "model.fp32.onnx"
GOLDEN = "golden.npz"
TEMPLATE = "template.png"


@dataclass(frozen=True)
class Identity:
    """Names and rates that a bundle states."""

    name: str
    version: str
    preset: str
    backbone: str
    score_rule: ScoreRule
    image_false_reject_rate: float
    pixel_false_reject_rate: float


def run_onnx(path: Path, images: Image, batch: int = 4) -> tuple[Float, Float]:
    """Maps (N,256,256) and scores (N,) of images uint8 (N,256,256,3), through ONNX Runtime on the CPU."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": images[i : i + batch]}) for i in range(0, len(images), batch)]
    return np.concatenate([maps for maps, _ in parts]), np.concatenate([scores for _, scores in parts])


def data_sha256(images: Image) -> str:
    """Hash over the pixels of a set of images."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def write_bundle(
    out: Path,
    graph: Detector,
    template: Image,
    held_out_good: Image,
    golden_images: Image,
    identity: Identity,
    provenance: Provenance,
) -> None:
    """Export the graph, fit its thresholds and write everything with its hashes.

    Args:
        out: directory; made when missing, files of an older bundle are replaced.
        graph: in eval mode.
        template: uint8 (256,256,3) RGB, kept for people to look at.
        held_out_good: uint8 (n,256,256,3), good parts that no training saw.
        golden_images: uint8 (K,256,256,3).
        identity: what the manifest says of it.
        provenance: where it came from.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_onnx(graph, out / MODEL_FP32)
    cv2.imwrite(str(out / TEMPLATE), cv2.cvtColor(template, cv2.COLOR_RGB2BGR))
    with torch.inference_mode():
        anomaly_map, score = graph(torch.from_numpy(golden_images))
    arrays = {"image": golden_images, "anomaly_map": anomaly_map.numpy(), "score": score.numpy()}
    np.savez_compressed(out / GOLDEN, **arrays)
    maps, scores = run_onnx(out / MODEL_FP32, held_out_good)
    fitted_on: Mapping[str, str] = {"data_sha256": data_sha256(held_out_good)}
    image_rate, pixel_rate = identity.image_false_reject_rate, identity.pixel_false_reject_rate
    manifest = Manifest(
        schema_version=1,
        name=identity.name,
        version=identity.version,
        detector="tfanet",
        preset=identity.preset,
        backbone=identity.backbone,
        preprocessing=PREPROCESSING,
        normalisation=Normalisation(mean=IMAGENET_MEAN, std=IMAGENET_STD),
        score_rule=identity.score_rule,
        image_threshold=Threshold(
            value=image_threshold(scores, image_rate), false_reject_rate=image_rate, n=len(scores), **fitted_on
        ),
        pixel_threshold=Threshold(
            value=pixel_threshold(maps, pixel_rate), false_reject_rate=pixel_rate, n=len(scores), **fitted_on
        ),
        template=TEMPLATE,
        golden=Golden(file=GOLDEN, reference=f"PyTorch {torch.__version__} float32 on the CPU, same rounded weights"),
        variants={
            "fp32": Variant(
                file=MODEL_FP32, opset=OPSET, weights_dtype="float16", map_tolerance=1e-3, score_tolerance=1e-3
            )
        },
        provenance=provenance,
        files=dict(hash_files(out, [MODEL_FP32, TEMPLATE, GOLDEN])),
    )
    write_manifest(out, manifest)
