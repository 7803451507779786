"""The verb `calibrate-int8`: give a bundle an INT8 variant, if its verdicts stay what they were.

Exit status 3: INT8 changes too many verdicts; the bundle is as it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import onnx

from calibration.comparison import Comparison, compare
from calibration.images import MIN_IMAGES, images_sha256, read_images
from calibration.int8 import quantise
from edge.arguments import share, whole_number_from
from edge.bundle import Bundle, file_sha256, load_bundle, write_manifest
from edge.errors import BundleError
from edge.manifest import Variant

MODEL_INT8 = "model.int8.onnx"
# Other devices and versions round otherwise than this one, which found the largest error.
TOLERANCE_MARGIN = 1.5
REFUSED = 3


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `calibrate-int8 BUNDLE --images DIR [--max-flips SHARE] [--limit N]`."""
    parser = subparsers.add_parser("calibrate-int8", help="add an INT8 variant to a bundle")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="bundle directory")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures of good parts")
    parser.add_argument(
        "--max-flips",
        type=share,
        default=0.005,
        metavar="SHARE",
        help="refuse when more verdicts than this change (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=whole_number_from(MIN_IMAGES), metavar="N", help="use N of the pictures, spread evenly"
    )
    parser.set_defaults(handler=_handle)


def _handle(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    fp32 = (bundle.path / bundle.variant("fp32").file).read_bytes()
    images = read_images(arguments.images, bundle.manifest.preprocessing, arguments.limit)
    model = quantise(onnx.load_from_string(fp32), images)
    onnx.helper.set_model_props(
        model, {"calibration": "min-max", "images": str(len(images)), "images_sha256": images_sha256(images)}
    )
    int8 = model.SerializeToString(deterministic=True)
    threshold = bundle.manifest.image_threshold.value
    result = compare(fp32, int8, images, bundle.golden(), threshold)
    if result.flip_share > arguments.max_flips:
        print(
            f"tfanet-edge: INT8 changes {result.flips} of {result.frames} verdicts at score {threshold:.4g}, "
            f"{result.flip_share:.2%} where {arguments.max_flips:.2%} may (map error {result.map_error:.2%}, "
            f"score correlation {_correlation(result)}): stay with fp32, or calibrate on more pictures",
            file=sys.stderr,
        )
        return REFUSED
    variant = _write_variant(bundle, int8, model.opset_import[0].version, result)
    print(_table(result, len(fp32), len(int8), threshold, variant))
    return 0


def _write_variant(bundle: Bundle, int8: bytes, opset: int, result: Comparison) -> Variant:
    """Put the file and then the manifest in their places; each is there completely or not at all."""
    plain = bundle.variant("fp32")
    variant = Variant(
        file=MODEL_INT8,
        opset=opset,
        weights_dtype="float32",
        map_tolerance=max(TOLERANCE_MARGIN * result.golden_map_error, plain.map_tolerance),
        score_tolerance=max(TOLERANCE_MARGIN * result.golden_score_error, plain.score_tolerance),
    )
    manifest = bundle.manifest
    temporary = bundle.path / f".{MODEL_INT8}.tmp"
    try:
        temporary.write_bytes(int8)
        changed = {
            "variants": {**manifest.variants, "int8": variant},
            "files": {**manifest.files, MODEL_INT8: file_sha256(temporary)},
        }
        temporary.replace(bundle.path / MODEL_INT8)
        write_manifest(bundle.path, manifest.model_copy(update=changed))
    except OSError as error:
        raise BundleError(f"bundle '{bundle.path}' cannot be written ({error})", "check its permissions") from error
    finally:
        temporary.unlink(missing_ok=True)
    return variant


def _table(result: Comparison, fp32_bytes: int, int8_bytes: int, threshold: float, variant: Variant) -> str:
    rows = [
        ("", "fp32", "int8"),
        ("file", f"{fp32_bytes / 1e6:.1f} MB", f"{int8_bytes / 1e6:.1f} MB"),
        ("per frame, ONNX Runtime, 1 thread", f"{result.fp32_ms:.1f} ms", f"{result.int8_ms:.1f} ms"),
        ("largest map error", "", f"{result.map_error:.2%}"),
        ("  on golden vectors (allowed)", "", f"{result.golden_map_error:.2%} ({variant.map_tolerance:.2%})"),
        (
            "score error on golden vectors (allowed)",
            "",
            f"{result.golden_score_error:.2%} ({variant.score_tolerance:.2%})",
        ),
        ("score correlation", "", _correlation(result)),
        (f"verdicts changed at score {threshold:.4g}", "", f"{result.flips} of {result.frames}"),
    ]
    return "\n".join(f"{name:<42}{plain:>10}{quantised:>18}" for name, plain, quantised in rows)


def _correlation(result: Comparison) -> str:
    return "undefined" if result.score_correlation is None else f"{result.score_correlation:.5f}"
