"""What FP16 and INT8 cost on real products, and what they save: exports, calibrates and measures, as a person would.

    .venv/bin/python benchmarks/precision.py --work runs/precision --run runs/bottle --data bottle \\
        --run runs/tire --data tire

The bundle of a run lies under `--work` with the run's name; an export or an INT8 variant that is there is not made
again. Ranges and the choice of layers come from the product's good training images, defects to choose by are drawn.
The labelled test images take part in nothing but this report: they are opened after the bundle is finished.

Figures per pixel are at 256x256, by ONNX Runtime on the CPU; times are of one frame, every variant in turn in each
round. The result file keeps products and detectors that a later call does not name. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import Spread, environment, interleaved_ms, round_medians
from stages import open_session

from edge.bundle import Bundle, load_bundle
from edge.engines.golden import compare_golden
from edge.frame import Image
from edge.manifest import Precision
from export.outputs import Outputs, measure_parity, run_onnx
from training.evaluation.predict import Bool, LabelledParts, read_parts
from training.image_sets import images_sha256
from training.metrics.image import image_metrics
from training.metrics.pixel import pixel_metrics
from training.run import Run, load_run

RESULT = Path(__file__).parent / "results" / "precision.json"
PACKAGES = ("tfanet-edge", "onnxruntime", "onnx", "numpy", "torch")
REFUSED = 3
FIGURES = {"image AUROC": "image_auroc", "pixel AUROC": "pixel_auroc", "AUPRO@0.3": "aupro_30"}


def tfanet_edge(*arguments: object) -> int:
    """Run a verb; progress and warnings go to the terminal. Returns its exit status, 0 or that of a refusal."""
    command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if status not in (0, REFUSED):
        raise SystemExit(status)
    return status


def finished_bundle(run: Run, data: Path, path: Path) -> Bundle:
    """The run's bundle with INT8, unless that was refused."""
    if not path.is_dir() and tfanet_edge("export", run.path, "--data", data, "--out", path) == REFUSED:
        raise SystemExit(REFUSED)
    manifest = load_bundle(path).manifest
    if manifest.provenance.command != run.record.command:
        raise SystemExit(f"'{path}' is the bundle of another run than '{run.path}': give another --work")
    if "int8" not in manifest.variants:
        tfanet_edge("calibrate-int8", path, "--images", data, "--cache", path.parent / "statistics")
    return load_bundle(path)


def measure(run: Run, data: Path, work: Path, threads: int, rounds: int, frames: int) -> dict[str, Any]:
    """Everything about one product."""
    bundle = finished_bundle(run, data, work / run.path.name)
    manifest = bundle.manifest
    parts, ignored = read_parts(data, run.record.settings.data), run.ignored()
    images = np.stack(parts.images)
    paths = {precision: bundle.path / variant.file for precision, variant in manifest.variants.items()}
    answers = {precision: run_onnx(path, images, precision, threads) for precision, path in paths.items()}
    variants = {precision: facts(bundle, precision, threads) for precision in paths}
    times = frame_times(paths, images[:1], threads, rounds, frames)
    good = images_sha256(images[~parts.defective])
    for precision, found in answers.items():
        parity = measure_parity(answers["fp32"], found, "fp32", manifest.image_threshold.value, good)
        variants[precision]["test_images"] = {
            **accuracy(parts, found, None if ignored is None else ~ignored),
            "against_fp32": parity.model_dump(),
        }
        variants[precision] |= times[precision]
    return {
        "product": data.name,
        "detector": manifest.detector,
        "preset": manifest.preset,
        "backbone": manifest.backbone,
        "epochs": manifest.provenance.epochs,
        "image_threshold": manifest.image_threshold.model_dump(),
        "int8_refused": "int8" not in manifest.variants,
        "good_test_images": int((~parts.defective).sum()),
        "defective_test_images": int(parts.defective.sum()),
        "defective_with_mask": sum(part.defect is not None and part.gt_mask is not None for part in parts.parts),
        "variants": variants,
        "timing": {"threads": threads, "rounds": rounds, "frames": frames},
        "machine": environment(PACKAGES),
    }


def facts(bundle: Bundle, precision: Precision, threads: int) -> dict[str, Any]:
    """What the bundle itself tells of a variant: its file, the golden vectors, what is in INT8."""
    variant, golden = bundle.variant(precision), bundle.golden()
    file = bundle.path / variant.file
    answers = run_onnx(file, golden.image, "golden vectors", threads)
    result = compare_golden(answers.maps, answers.scores, golden)
    return {
        "onnx_sha256": bundle.manifest.files[variant.file],
        "onnx_bytes": file.stat().st_size,
        "golden": {"map_error": result.map_error, "score_error": result.score_error},
        "tolerance": {"map_error": variant.map_tolerance, "score_error": variant.score_tolerance},
        "parity_when_made": variant.parity and variant.parity.model_dump(),
        "quantisation": variant.quantisation and variant.quantisation.model_dump(),
    }


def accuracy(parts: LabelledParts, answers: Outputs, counted: Bool | None) -> dict[str, float | None]:
    """Image AUROC; pixel AUROC and AUPRO@0.3 at 256x256, without defective images that have no mask."""
    masked = [(i, part.gt_mask_256) for i, part in enumerate(parts.parts) if part.gt_mask_256 is not None]
    pixel, _ = pixel_metrics((answers.maps[i] for i, _ in masked), [mask for _, mask in masked], counted)
    image = image_metrics(answers.scores, parts.defective)
    return {"image_auroc": image.auroc, "pixel_auroc": pixel.auroc, "aupro_30": pixel.aupro_30}


def frame_times(
    paths: Mapping[Precision, Path], image: Image, threads: int, rounds: int, frames: int
) -> dict[str, dict[str, Any]]:
    """Milliseconds of a frame from the network's input to map and score, and how fp32 compares in the same round."""
    cases: dict[str, Callable[[], object]] = {
        precision: partial(open_session(path, threads).run, None, {"image": image}) for precision, path in paths.items()
    }
    times = interleaved_ms(cases, rounds, frames)
    fp32 = round_medians(times["fp32"])
    return {
        name: {
            "ms_per_frame": Spread.of([ms for of_round in of_rounds for ms in of_round]).rounded(),
            "times_faster": Spread.of(
                [slow / fast for slow, fast in zip(fp32, round_medians(of_rounds), strict=True)]
            ).rounded(),
        }
        for name, of_rounds in times.items()
    }


def accuracy_table(products: Mapping[str, Any]) -> str:
    """Per cent; in brackets what changed against fp32."""
    headings = [
        "product",
        "detector",
        "variant",
        *FIGURES,
        "verdicts",
        "map error",
        "golden map error",
        "MB",
        "ms per frame",
        "times faster",
    ]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for product in products.values():
        name = f"{product['product']} | {product['detector']}"
        fp32 = product["variants"]["fp32"]
        for precision, variant in product["variants"].items():
            tested = variant["test_images"]
            against, count = tested["against_fp32"], product["good_test_images"] + product["defective_test_images"]
            megabytes, share = variant["onnx_bytes"] / 1e6, variant["onnx_bytes"] / fp32["onnx_bytes"]
            cells = [
                name,
                precision,
                *(_figure(tested[key], fp32["test_images"][key]) for key in FIGURES.values()),
                f"{against['flips']} of {count}",
                f"{against['map_error']:.2%}",
                f"{variant['golden']['map_error']:.1e}",
                f"{megabytes:.1f} ({share:.0%})",
                Spread(**variant["ms_per_frame"]).text(0),
                "" if precision == "fp32" else Spread(**variant["times_faster"]).text(2),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        if product["int8_refused"]:
            lines.append(f"| {name} | int8 | refused by calibrate-int8 |" + " |" * (len(headings) - 4))
    return "\n".join(lines)


def groups_table(products: Mapping[str, Any]) -> str:
    """What computes in INT8, and by which method its ranges were chosen."""
    lines = ["| product | detector | multiply-accumulates in INT8 | layers in INT8, method |", "|---|---|---|---|"]
    for product in products.values():
        name = f"{product['product']} | {product['detector']}"
        if (int8 := product["variants"].get("int8")) is not None:
            found = int8["quantisation"]
            groups = ", ".join("{name} {layers} of {of_layers} {method}".format(**group) for group in found["groups"])
            lines.append(f"| {name} | {found['int8_share']:.1%} | {groups} |")
    return "\n".join(lines)


def _figure(value: float | None, fp32: float | None) -> str:
    if value is None or fp32 is None:
        return "–"
    return f"{100 * value:.2f}" + (f" ({100 * (value - fp32):+.3f})" if value != fp32 else "")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", required=True, metavar="RUN", help="of a training")
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="its product")
    parser.add_argument("--work", type=Path, required=True, help="where bundles are kept")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--frames", type=int, default=3, help="per variant and round, after one that warms up")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if len(arguments.run) != len(arguments.data):
        parser.error("every --run needs its --data")
    out: Path = arguments.out
    products = json.loads(out.read_text(encoding="utf-8"))["products"] if out.is_file() else {}
    for run, data in zip(arguments.run, arguments.data, strict=True):
        options = arguments.threads, arguments.rounds, arguments.frames
        found = measure(load_run(run), data, arguments.work, *options)
        products[f"{data.name}/{found['detector']}"] = found
        out.write_text(json.dumps({"products": products}, indent=1) + "\n", encoding="utf-8")
    print(accuracy_table(products), groups_table(products), sep="\n\n")


if __name__ == "__main__":
    main()
