"""The verb `calibrate-int8`: give a bundle an INT8 variant, as far as its verdicts and maps stay what they were.

Exit status 3: INT8 costs more than it may, or the pictures are not of good parts; the bundle is as it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from calibration.calibrate import calibrate, measure_ranges
from calibration.evidence import Evidence, Tolerance
from calibration.images import MIN_IMAGES, read_images
from calibration.int8 import Float, prepare
from calibration.judged import some, split, with_labelled_defects, with_synthetic_defects
from calibration.ranges import Method
from calibration.report import REPORT, quantisation_page
from calibration.table import refusal, table
from calibration.variant import describe
from edge.arguments import share, whole_number_from
from edge.bundle import load_bundle
from edge.engines.plan_cache import user_cache
from edge.errors import RefusedError
from export.onnx_graph import Parts
from export.outputs import run_onnx
from export.page import render
from export.staging import replace_files
from training.networks.table import DETECTORS

# Far more than any threshold lets pass.
MAX_REJECTED = 0.5


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `calibrate-int8 BUNDLE --images DIR` and its options."""
    parser = subparsers.add_parser("calibrate-int8", help="add an INT8 variant to a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures of good parts")
    parser.add_argument(
        "--labelled",
        type=Path,
        metavar="DIR",
        help="product with labelled defects to judge INT8 on, instead of defects drawn onto the good parts; "
        "they are no test images any more",
    )
    parser.add_argument(
        "--method",
        choices=("auto", *get_args(Method)),
        default="auto",
        help="how ranges are chosen; auto takes the best for each part of the network (default: %(default)s)",
    )
    parser.add_argument(
        "--max-auroc-drop",
        type=share,
        default=0.002,
        metavar="SHARE",
        help="by which image and pixel AUROC may change (default: %(default)s)",
    )
    parser.add_argument(
        "--max-aupro-drop", type=share, default=0.005, metavar="SHARE", help="the same of AUPRO (default: %(default)s)"
    )
    parser.add_argument(
        "--max-flips",
        type=share,
        default=0.005,
        metavar="SHARE",
        help="share of the verdicts that may change (default: %(default)s)",
    )
    parser.add_argument(
        "--max-swaps",
        type=share,
        default=0.005,
        metavar="SHARE",
        help="share of the pairs of good parts whose order by score may change (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=whole_number_from(MIN_IMAGES), metavar="N", help="use N of the pictures, spread evenly"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=user_cache() / "calibration",
        metavar="DIR",
        help="for statistics (default: %(default)s)",
    )
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    settings, threshold = bundle.manifest.preprocessing, bundle.manifest.image_threshold.value
    fp32 = (bundle.path / bundle.variant("fp32").file).read_bytes()
    calibration, good = split(read_images(arguments.images, settings, arguments.limit))
    if arguments.labelled is None:
        images, masks = with_synthetic_defects(good)
    else:
        images, masks = with_labelled_defects(good, arguments.labelled, settings)
    evidence = Evidence(images, masks, run_onnx(fp32, images, "fp32"), threshold)
    _refuse_rejected(arguments.images, evidence.reference.scores[: len(good)], threshold)
    network = prepare(fp32, _parts(bundle.manifest.detector))
    found = calibrate(
        network,
        measure_ranges(network, calibration, arguments.cache),
        some(evidence),
        evidence,
        tolerance := Tolerance(
            arguments.max_flips, arguments.max_swaps, arguments.max_auroc_drop, arguments.max_aupro_drop
        ),
        get_args(Method) if arguments.method == "auto" else (arguments.method,),
    )
    if found.model is None:
        raise refusal(found, tolerance)
    answers = run_onnx(found.model, images, "int8")
    variant = describe(bundle, network, found, evidence, answers, calibration)
    page = quantisation_page(bundle, network, found, evidence, answers, variant)
    replace_files(bundle, {variant.file: found.model, REPORT: render(page).encode()}, {"int8": variant})
    print(table(bundle, network, found, variant, len(found.model)))
    return 0


def _parts(detector: str) -> Parts:
    """None for a detector that this version does not know."""
    return DETECTORS[detector].parts if detector in DETECTORS else ()


def _refuse_rejected(directory: Path, scores: Float, threshold: float) -> None:
    rejected = int((scores >= threshold).sum())
    if rejected > MAX_REJECTED * len(scores):
        raise RefusedError(
            f"fp32 rejects {rejected} of {len(scores)} pictures in '{directory}': these are no good parts of "
            "the bundle's product, or not as its camera takes them",
            "give pictures of good parts",
        )
