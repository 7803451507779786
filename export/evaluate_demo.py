"""Measure the demo's bundle on rendered parts of the test range: `python -m export.evaluate_demo --out report.json`.

Everything goes through ONNX Runtime and the thresholds in the manifest, as on the station.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from edge.bundle import load_bundle
from edge.frame import Image
from edge.overlay import heat_map, outline
from edge.verdict import Judgement, Limits, judge, tile_maxima
from export.outputs import Float, run_onnx
from simulator.defects import DefectKind
from simulator.parts import TEST_SEEDS
from training.rendered import RenderedSet, mixed_kinds, rendered_set

DEFECTIVE_SHARE = 0.25


def measure(parts: RenderedSet, maps: Float, scores: Float, limits: Limits) -> dict[str, Any]:
    """Image and pixel figures of judged parts.

    Args:
        parts: with masks and kinds.
        maps: (N,256,256).
        scores: (N,).
        limits: the bundle's.
    """
    defective = np.array([kind is not None for kind in parts.kinds])
    judged = [_judge(anomaly_map, score, limits) for anomaly_map, score in zip(maps, scores, strict=True)]
    rejected = np.array([judgement.verdict == "NG" for judgement in judged])
    overlap = [_overlap(judged[i].mask, parts.masks[i]) for i in np.flatnonzero(defective)]
    return {
        "parts": len(scores),
        "defective": int(defective.sum()),
        "image_auroc": float(roc_auc_score(defective, scores)),
        "pixel_auroc": float(roc_auc_score(parts.masks.ravel(), maps.ravel())),
        "good_rejected": float(rejected[~defective].mean()),
        "defective_rejected": float(rejected[defective].mean()),
        "defective_rejected_by_kind": {
            kind.value: float(rejected[[k is kind for k in parts.kinds]].mean()) for kind in DefectKind
        },
        "mask_touches_defect": float(np.mean([inside > 0 for inside, _ in overlap])),
        "median_mask_iou": float(np.median([iou for _, iou in overlap])),
    }


def _judge(anomaly_map: Float, score: np.float32, limits: Limits) -> Judgement:
    above = (anomaly_map >= limits.pixel_threshold).astype(np.uint8)
    return judge(float(score), tile_maxima(anomaly_map), anomaly_map, above, limits)


def _overlap(mask: Image, gt_mask: Image) -> tuple[int, float]:
    """Pixels in common, and intersection over union."""
    inside = int((mask & gt_mask).sum())
    return inside, inside / max(1, int((mask | gt_mask).sum()))


def picture(parts: RenderedSet, maps: Float, scores: Float, limits: Limits, chosen: list[int]) -> Image:
    """One column per chosen part: what the network saw, its heat map, the mask's outline over it; uint8 RGB."""
    columns = []
    for index in chosen:
        image = parts.images[index]
        mask = _judge(maps[index], scores[index], limits).mask
        columns.append(
            np.concatenate([image, heat_map(image, maps[index], limits.pixel_threshold), outline(image, mask)])
        )
    joined: npt.NDArray[np.uint8] = np.concatenate(columns, axis=1)
    return joined


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("simulator/demo_bundle"))
    parser.add_argument("--parts", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first one in the test range")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--picture", type=Path, help="image file to write: the first part of each kind that was found")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle)
    manifest = bundle.manifest
    limits = Limits(manifest.image_threshold.value, manifest.pixel_threshold.value, min_area_px=1)
    seeds = TEST_SEEDS[arguments.first : arguments.first + arguments.parts]
    parts = rendered_set(seeds, mixed_kinds(arguments.parts, DEFECTIVE_SHARE, seed=arguments.first))
    outputs = run_onnx(bundle.path / bundle.variant("fp32").file, parts.images, "fp32")
    maps, scores = outputs.maps, outputs.scores
    report = {"bundle": bundle.manifest_sha256, "score_rule": manifest.score_rule, "first_part": arguments.first}
    report |= measure(parts, maps, scores, limits)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    if arguments.picture is not None:
        found = scores >= limits.image_threshold
        chosen = [
            next(i for i, part_kind in enumerate(parts.kinds) if part_kind is kind and found[i]) for kind in DefectKind
        ]
        shown = cv2.cvtColor(picture(parts, maps, scores, limits, chosen), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(arguments.picture), shown, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
