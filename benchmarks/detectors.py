"""All detectors on the same products: how good, how large, how fast, and what SNC adds to its own base.

    .venv/bin/python benchmarks/detectors.py --weights resnet18.pth --work runs/detectors \\
        --data piped/PA_BDP01_TL bottle

Every detector × product × seed is a run directory under `--work`, made by the verbs `train` and `evaluate`. What is
finished is not repeated, what was killed goes on; results are written after each, and several of these may share them.
The first seed of all comes first, cheap detectors before dear ones. Test images are opened after a training is over,
and nothing is chosen by them. Thresholds, ranges and layers of INT8 come from good training parts; the bundle that is
weighed and timed is that of the first product with the first seed. Training times are the wall time of `train`, over
all its starts.

`--epochs-scale 0.2 efficientad=0.01` shortens every recipe to a fifth and EfficientAD's to a hundredth; `--options
efficientad="--teacher-steps 12"` passes options to `train`. SNC and its base are trained for as long, and alike but
with `+loss`. Prints Markdown tables, and draws accuracy over time per frame beside the results.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import detectors_table as tables
import onnx
import precision
from detectors_plan import VARIANTS, Plan, described, is_measured, planned
from measure import Spread, environment, interleaved_ms, random_image
from stages import open_session

from edge.bundle import load_bundle
from export.cost import multiply_accumulates
from training.files import write_text
from training.networks.table import DETECTORS
from training.run import load_run

RESULT = Path(__file__).parent / "results" / "detectors.json"
PACKAGES = ("tfanet-edge", "onnxruntime", "onnx", "numpy", "torch")
PIXEL = {"pixel AUROC": "auroc", "pixel AP": "ap", "AUPRO@0.3": "aupro_30", "AUPRO@0.05": "aupro_05"}
SNC_BASES = ("stfpm", "reverse_distillation", "efficientad")


@dataclass(frozen=True)
class Kept:
    """The results on disk, which several of these scripts may fill at once."""

    path: Path
    products: Sequence[str]

    def read(self) -> dict[str, Any]:
        """All that is there."""
        if not self.path.is_file():
            return {"cells": {}, "networks": {}, "timing": {}}
        results: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return results

    def add(self, kind: str, found: Mapping[str, Any]) -> None:
        """Write entries of one kind, in place of those of the same name."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            results = self.read()
            results[kind] = {**results[kind], **found}
            write_text(self.path, json.dumps(results, indent=1) + "\n")
        finally:
            os.close(folder)


class OverBudgetError(Exception):
    """There is no time left."""


class FailedError(Exception):
    """A verb failed; its last line tells why."""


@dataclass(frozen=True)
class Bench:
    """Where things are, and until when there is time; `deadline_s` is of the monotonic clock."""

    weights: Path
    work: Path
    device: str
    deadline_s: float

    def cell(self, plan: Plan) -> dict[str, Any]:
        """Train and evaluate, or what remains of it."""
        where = self.directory(plan)
        begun = ["--data", plan.data, "--weights", self.weights, "--out", where / "run", "--device", self.device]
        training_s = self._timed(where, "train", *begun, "--seed", plan.seed, *plan.options)
        report = where / "evaluation.json"
        judged = ["--run", where / "run", "--data", plan.data, "--device", self.device]
        self.verb(where, "evaluate", *judged, "--json", report, "--report", where / "report")
        return {**described(plan), "training_s": training_s, **figures_of(report), "device": self.device}

    def network(self, plan: Plan) -> dict[str, Any]:
        """Export and calibrate a trained cell: what its files are like, and what INT8 changes on test images."""
        threads = len(os.sched_getaffinity(0))
        run = load_run(self.directory(plan) / "run")
        try:
            found = precision.measure(run, plan.data, self.bundles(plan), threads, 1, 1)
        except SystemExit as end:
            raise FailedError(f"no bundle of {run.path}: {end}") from end
        path, variants = self.bundle(plan), load_bundle(self.bundle(plan)).manifest.variants
        return {
            **described(plan),
            "macs": sum(multiply_accumulates(onnx.load(path / variants["fp32"].file)).values()),
            "images": found["good_test_images"] + found["defective_test_images"],
            "files": {
                name: {
                    "bytes": of["onnx_bytes"],
                    **({} if of["quantisation"] is None else {"int8_share": of["quantisation"]["int8_share"]}),
                    **of["test_images"],
                }
                for name, of in found["variants"].items()
            },
        }

    def bundles(self, plan: Plan) -> Path:
        """Where a cell's bundle lies, under the name of its run."""
        return self.directory(plan) / "bundles"

    def bundle(self, plan: Plan) -> Path:
        """Of a cell whose network was measured."""
        return self.bundles(plan) / "run"

    def directory(self, plan: Plan) -> Path:
        """Of a cell; another one for each length of training."""
        return self.work / f"{plan.variant}.e{plan.epochs}" / f"{plan.data.name}.s{plan.seed}"

    def verb(self, where: Path, *arguments: object) -> None:
        """Run a verb of tfanet-edge; its progress goes to a log."""
        where.mkdir(parents=True, exist_ok=True)
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise OverBudgetError
        command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
        log = where / f"{arguments[0]}.log"
        with log.open("w", encoding="utf-8") as file:
            try:
                status = subprocess.run(
                    command, stdout=subprocess.DEVNULL, stderr=file, timeout=left_s, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                raise OverBudgetError from None
        if status != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").split()
            raise FailedError(f"{arguments[0]} ended with {status}: {' '.join(lines[-40:])} ({log})")

    def _timed(self, where: Path, *arguments: object) -> float:
        """Run a verb; seconds that it took, with those of earlier starts that were cut short."""
        path = where / "seconds.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"seconds": 0.0, "is_over": False}
        if before["is_over"]:
            return float(before["seconds"])
        started_s, is_over = time.monotonic(), False
        try:
            self.verb(where, *arguments)
            is_over = True
        finally:
            seconds = before["seconds"] + time.monotonic() - started_s
            write_text(path, json.dumps({"seconds": seconds, "is_over": is_over}))
        return float(seconds)


def figures_of(report: Path) -> dict[str, Any]:
    """Of one run, at the files' resolution, and how many images they are of."""
    content = json.loads(report.read_text(encoding="utf-8"))
    (run,) = content["runs"]
    total = run["figures"]["total"]
    figures = {"image AUROC": total["image"]["auroc"]} | {
        name: total["pixel_original"][key] for name, key in PIXEL.items()
    }
    return {"figures": figures, "test_images": content["test_images"], "code_version": run["record"]["code_version"]}


def measure(plans: Sequence[Plan], bench: Bench, kept: Kept, frames: int) -> None:
    """Fill in what the results have not yet, until the time is over.

    Args:
        frames: timed of each network; 0 leaves size and time of networks out.
    """
    first = plans[0].data, plans[0].seed
    for number, plan in enumerate(plans, 1):
        is_weighed = frames > 0 and (plan.data, plan.seed) == first
        for kind, key, make in (
            ("cells", plan.key, bench.cell),
            *([("networks", plan.variant, bench.network)] if is_weighed else []),
        ):
            if is_measured(kept.read()[kind].get(key), plan):
                continue
            print(f"{number} of {len(plans)}: {kind} {plan.key}", file=sys.stderr)
            try:
                found = make(plan)
            except FailedError as error:
                print(error, file=sys.stderr)
                found = {**described(plan), "failed": str(error)}
            kept.add(kind, {key: found})
            if "failed" in found:
                break
            if kind == "networks":
                measure_times(plans, bench, kept, frames)


def measure_times(plans: Sequence[Plan], bench: Bench, kept: Kept, frames: int) -> None:
    """Time the frames of all networks that are there, every file in turn in each round."""
    cases: dict[str, Callable[[], object]] = {}
    threads = len(os.sched_getaffinity(0))
    networks = kept.read()["networks"]
    for plan in plans:
        path, network = bench.bundle(plan), networks.get(plan.variant, {})
        if all(network.get(name) == value for name, value in described(plan).items()):
            for number, variant in load_bundle(path).manifest.variants.items():
                if number in tables.PRECISIONS:
                    run = open_session(path / variant.file, threads).run
                    cases[f"{plan.variant} {number}"] = partial(run, None, {"image": random_image(seed=1)})
    for name, of_rounds in interleaved_ms(cases, 5, frames).items():
        variant_name, number = name.split()
        spread = Spread.of([ms for of_round in of_rounds for ms in of_round]).rounded()
        networks[variant_name]["files"][number]["ms_per_frame"] = spread
    kept.add("networks", networks)
    kept.add("timing", {"threads": threads, "rounds": 5, "frames": frames, "machine": environment(PACKAGES)})


def report(results: Mapping[str, Any], products: Sequence[str]) -> str:
    """All tables."""
    cells = tables.read_cells(results)
    tried = {**results["cells"], **results["networks"]}
    return "\n\n".join(
        [
            tables.accuracy_table(cells, VARIANTS, products),
            tables.networks_table(results["networks"], VARIANTS),
            tables.int8_table(results["networks"], VARIANTS),
            *(tables.snc_table(cells, SNC_BASES, products, added) for added in (tables.SNC, tables.SNC + tables.LOSS)),
            *(f"{key} failed: {of['failed']}" for key, of in tried.items() if "failed" in of),
        ]
    )


def _of_detector(text: str) -> tuple[str, str]:
    """`DETECTOR=X`; what is for all is under ""."""
    name, equals, value = text.partition("=")
    if not equals:
        return "", text
    if name not in DETECTORS:
        raise argparse.ArgumentTypeError(f"there is no detector '{name}'")
    return name, value


def _scale(text: str) -> tuple[str, float]:
    name, value = _of_detector(text)
    if (scale := float(value)) <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
    return name, scale


def _options(text: str) -> tuple[str, list[str]]:
    name, value = _of_detector(text)
    return name, shlex.split(value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="products, cheap ones first")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the backbone's state dict")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--epochs-scale", type=_scale, nargs="+", default=[], metavar="[DETECTOR=]X")
    parser.add_argument("--options", type=_options, nargs="+", default=[], metavar="[DETECTOR=]TEXT", help="of `train`")
    parser.add_argument("--backbone", metavar="NAME", help="for all; needs an --out of its own")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), metavar="N", help="then stop, to go on")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="for training and figures")
    parser.add_argument("--frames", type=int, default=5, help="timed per network and round; 0: no sizes and times")
    parser.add_argument("--table", action="store_true", help="print and draw what is there, measure nothing")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if arguments.backbone is not None and arguments.out == RESULT:
        parser.error(f"--backbone {arguments.backbone} would overwrite other results: give another --out, --work")
    kept = Kept(arguments.out, [data.name for data in arguments.data])
    scales = {"": 1.0, **dict(arguments.epochs_scale)}
    more = dict(arguments.options)
    if arguments.backbone is not None:
        more[""] = ["--backbone", arguments.backbone, *more.get("", ())]
    plans = planned(arguments.only, arguments.data, arguments.seeds, scales, more)
    deadline_s = time.monotonic() + 60 * arguments.budget_minutes
    bench = Bench(arguments.weights, arguments.work, arguments.device, deadline_s)
    if not arguments.table:
        try:
            measure(plans, bench, kept, arguments.frames)
        except OverBudgetError:
            print("the time is over; the same command goes on", file=sys.stderr)
    results = kept.read()
    tables.draw(tables.read_cells(results), results["networks"], kept.products, kept.path.with_suffix(".png"))
    print(report(results, kept.products))


if __name__ == "__main__":
    # As Ctrl-C does: what runs underneath ends too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
