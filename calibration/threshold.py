"""The verb `threshold`: fit a bundle's two thresholds to held-out good parts, or show them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from calibration.fitting import LabelledScores, fit, refuse_seen, score_labelled
from calibration.images import read_images
from edge.bundle import load_bundle, write_manifest
from edge.manifest import Manifest, Threshold
from export.command import add_rates
from training.thresholds import images_needed


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `threshold fit BUNDLE --images DIR` with its options, and `threshold show BUNDLE [--json]`."""
    parser = subparsers.add_parser("threshold", help="fit a bundle's thresholds to good parts, or show them")
    verbs = parser.add_subparsers(metavar="fit|show", required=True)
    fit_parser = verbs.add_parser("fit", help="fit both thresholds to held-out good parts")
    fit_parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    fit_parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="pictures of good parts that neither the training nor an INT8 calibration has seen: parts that a network "
        "knows score lower than new ones, and the promise would not hold",
    )
    add_rates(fit_parser)
    fit_parser.add_argument(
        "--defects",
        type=Path,
        metavar="DIR",
        help="a product's labelled test images: says how many defects are missed, and moves nothing",
    )
    fit_parser.set_defaults(handler=_handle_fit)
    show_parser = verbs.add_parser("show", help="say what the thresholds promise")
    show_parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    show_parser.add_argument("--json", action="store_true", help="as the manifest has them")
    show_parser.set_defaults(handler=_handle_show)


def _handle_fit(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    before = bundle.manifest
    images = read_images(arguments.images, before.preprocessing, None)
    refuse_seen(arguments.images, images, before)
    after = fit(bundle, images, arguments.false_reject_rate, arguments.pixel_share)
    labelled = score_labelled(bundle, arguments.defects) if arguments.defects else None
    write_manifest(bundle.path, after)
    print(_table([("before", before), ("after", after)], labelled))
    fitted = after.image_threshold
    if fitted.guaranteed_rate > fitted.false_reject_rate:
        print(
            f"tfanet-edge: warning: {fitted.n} good parts are too few for a false-reject rate of "
            f"{_percent(fitted.false_reject_rate)}, {images_needed(fitted.false_reject_rate)} are needed: "
            f"only {_percent(fitted.guaranteed_rate)} is guaranteed",
            file=sys.stderr,
        )
    return 0


def _handle_show(arguments: argparse.Namespace) -> int:
    manifest = load_bundle(arguments.bundle).manifest
    if arguments.json:
        thresholds = manifest.model_dump(mode="json", include={"image_threshold", "pixel_threshold"})
        print(json.dumps(thresholds, indent=2))
    else:
        print(_table([("", manifest)], None))
    return 0


def _table(columns: Sequence[tuple[str, Manifest]], labelled: LabelledScores | None) -> str:
    manifests = [manifest for _, manifest in columns]
    rows = [("", [name for name, _ in columns])] if len(columns) > 1 else []
    rows += _rows("image threshold", [manifest.image_threshold for manifest in manifests])
    rows += _rows("pixel threshold", [manifest.pixel_threshold for manifest in manifests])
    rows.append(
        ("  share of a part's pixels", [_percent(manifest.pixel_threshold.pixel_share) for manifest in manifests])
    )
    if labelled is not None:
        limits = [manifest.image_threshold.value for manifest in manifests]
        missed = [_share_of(labelled.defective < limit) for limit in limits]
        rejected = [_share_of(labelled.good >= limit) for limit in limits]
        rows += [("labelled defective parts missed", missed), ("labelled good parts rejected", rejected)]
    width = 3 + max(len(cell) for _, cells in rows for cell in cells)
    return "\n".join(f"{name:<31}" + "".join(f"{cell:>{width}}" for cell in cells) for name, cells in rows)


def _rows(name: str, thresholds: Sequence[Threshold]) -> list[tuple[str, list[str]]]:
    return [
        (name, [f"{threshold.value:.6g}" for threshold in thresholds]),
        ("  false-reject rate asked for", [_percent(threshold.false_reject_rate) for threshold in thresholds]),
        ("  guaranteed on average", [_percent(threshold.guaranteed_rate) for threshold in thresholds]),
        ("  90 % interval", [_interval(*threshold.interval) for threshold in thresholds]),
        ("  held-out good parts", [str(threshold.n) for threshold in thresholds]),
    ]


def _share_of(is_so: npt.NDArray[np.bool_]) -> str:
    """Count and share with Clopper and Pearson's 95 % interval."""
    count, total = int(is_so.sum()), len(is_so)
    if not total:
        return "there are none"
    found = binomtest(count, total).proportion_ci(0.95, method="exact")
    return f"{count} of {total}, 95 % in {_interval(found.low, found.high)}"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.3g} to {100 * high:.3g} %"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
