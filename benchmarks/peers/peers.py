"""Our detector beside anomalib's, on the same images and the same ResNet-18 weights, scored by the same code.

    python benchmarks/peers/peers.py --peer-python PEER_PYTHON --backbone-weights FILE --data DIR [DIR ...] --work DIR
        [--methods patchcore padim reverse_distillation tfanet] [--seeds 0 1 2] [--epochs N] [--peer-epochs N]
        [--coreset-ratio R] [--threads 2] [--out FILE.json]

PEER_PYTHON is the interpreter of an environment made from requirements.txt. Each DIR is one product with train/good,
test and ground_truth. Everything is run before anything is scored, one process at a time, on the CPU; what the same
command left in --work is not trained again. Pixel figures are at 256×256, over the images whose ground truth is known.
Our detector keeps a tenth of the good images back for its threshold; the peers train on all of them.
Writes FILE.json and FILE.md, benchmarks/results/peers unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from processes import note_run, run_process, was_run

from edge.bundle import file_sha256
from training.data.labelled import read_labelled
from training.data.settings import DataSettings
from training.metrics.image import ImageMetrics, image_metrics
from training.metrics.pixel import PixelMetrics, pixel_metrics
from training.metrics.summary import over_seeds

RESULT = Path(__file__).parents[1] / "results" / "peers.json"
WORKER = Path(__file__).with_name("anomalib_worker.py")
TIMER = Path(__file__).with_name("our_time.py")
OURS = "tfanet"
PEERS = ("patchcore", "padim", "reverse_distillation")
NOT_MEASURED = {"efficient_ad": "not measured: its teacher weights were not available"}
COLUMNS = (
    ("image AUROC", ("image", "auroc"), 1, 3),
    ("image AP", ("image", "ap"), 1, 3),
    ("image F1-max", ("image", "f1_max"), 1, 3),
    ("pixel AUROC", ("pixel", "auroc"), 1, 3),
    ("pixel AP", ("pixel", "ap"), 1, 3),
    ("AUPRO@0.3", ("pixel", "aupro_30"), 1, 3),
    ("AUPRO@0.05", ("pixel", "aupro_05"), 1, 3),
    ("training, s", ("cost", "training_s"), 1, 0),
    ("ms per image", ("cost", "inference_ms_median"), 1, 0),
    ("peak memory, MB", ("cost", "peak_rss_bytes"), 1e-6, 0),
)


@dataclass(frozen=True)
class Settings:
    """What every run shares."""

    peer_python: Path
    weights: Path
    work: Path
    epochs: int
    peer_epochs: int
    coreset_ratio: float
    threads: int


def run_peer(settings: Settings, product: Path, method: str, seed: int) -> Path:
    """Train and test one of anomalib's detectors in its own environment; what it wrote."""
    out = settings.work / product.name / f"{method}-{seed}.json"
    command = [settings.peer_python, WORKER, "--data", product, "--backbone-weights", settings.weights]
    command += ["--method", method, "--out", out, "--seed", seed, "--threads", settings.threads]
    own = {
        "patchcore": ["--coreset-ratio", settings.coreset_ratio],
        "reverse_distillation": ["--epochs", settings.peer_epochs],
    }
    command += own.get(method, [])
    if not was_run(out, command):
        run_process(command, out, settings.threads)
        note_run(out, command)
    return out


def measure_peer(written: Path, product: Path) -> dict[str, Any]:
    """Figures of what a peer wrote, by the code that gives ours."""
    report = json.loads(written.read_text())
    with np.load(written.with_suffix(".npz")) as arrays:
        scores, maps = arrays["scores"], arrays["maps"]
    index = {name: number for number, name in enumerate(report.pop("images"))}
    parts = list(read_labelled(product, DataSettings()))
    order = [index[part.name] for part in parts]
    truth = [(number, part.gt_mask_256) for number, part in zip(order, parts, strict=True)]
    known = [(maps[number], mask) for number, mask in truth if mask is not None]
    pixel, _ = pixel_metrics([anomaly_map for anomaly_map, _ in known], [mask for _, mask in known])
    defective = np.array([part.defect is not None for part in parts])
    cost = ("training_s", "inference_ms_median", "peak_rss_bytes")
    return {
        "image": _figures(image_metrics(scores[order], defective)),
        "pixel": _figures(pixel),
        "cost": {name: report.pop(name) for name in cost},
        "how": report,
    }


def run_ours(settings: Settings, product: Path, seed: int) -> Path:
    """Train, evaluate and time our detector, the first two through its own commands; the evaluation's report."""
    run = settings.work / product.name / f"{OURS}-{seed}"
    out = run.with_suffix(".json")
    program = [sys.executable, "-m", "edge.cli"]
    train = [*program, "train", "--data", product, "--preset", "tiny", "--backbone", "resnet18", "--device", "cpu"]
    train += ["--weights", settings.weights, "--epochs", settings.epochs, "--seed", seed, "--out", run]
    trained = out.with_suffix(".train.json")
    if not was_run(trained, train):
        if run.exists():
            raise SystemExit(f"'{run}' holds a training begun before, whose time is not known: delete it")
        training_s, peak_rss_bytes = run_process(train, out, settings.threads)
        trained.write_text(json.dumps({"training_s": training_s, "peak_rss_bytes": peak_rss_bytes}))
        note_run(trained, train)
    evaluate = [*program, "evaluate", "--run", run, "--data", product, "--json", out, "--device", "cpu"]
    run_process(evaluate, out, settings.threads)
    time = [sys.executable, TIMER, "--run", run, "--data", product, "--threads", settings.threads]
    run_process([*time, "--out", out.with_suffix(".time.json")], out, settings.threads)
    return out


def measure_ours(written: Path) -> dict[str, Any]:
    """Figures from the evaluation's report; time and memory of training are those of the whole process."""
    report = json.loads(written.read_text())
    [run] = report["runs"]
    times = json.loads(written.with_suffix(".time.json").read_text())
    cost = json.loads(written.with_suffix(".train.json").read_text())
    cost["inference_ms_median"] = times.pop("inference_ms_median")
    figures, record = run["figures"]["total"], run["record"]
    how = {name: record[name] for name in ("settings", "train_images", "held_out_images")}
    return {
        "image": figures["image"],
        "pixel": figures["pixel_256"],
        "cost": cost,
        "how": {"method": OURS, **how, "epochs": run["epochs_trained"], "versions": report["versions"], **times},
    }


def measure(
    settings: Settings, products: Sequence[Path], methods: Sequence[str], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """One row per product and method, each with its runs and their mean and spread."""
    # Scoring needs much memory, and a process just started counts what its parent holds as its own peak.
    written = {
        (product, method): [
            run_ours(settings, product, seed) if method == OURS else run_peer(settings, product, method, seed)
            for seed in seeds
        ]
        for product in products
        for method in methods
    }
    rows = []
    for (product, method), paths in written.items():
        runs = [measure_ours(path) if method == OURS else measure_peer(path, product) for path in paths]
        figures = [{group: run[group] for group in ("image", "pixel", "cost")} for run in runs]
        rows.append({"product": product.name, "method": method, "summary": over_seeds(figures), "runs": runs})
    return rows


def _described(row: dict[str, Any], settings: Settings) -> str:
    """The method with what was chosen for it."""
    chosen = {
        "patchcore": f" (coreset {settings.coreset_ratio:g})",
        "reverse_distillation": f" ({settings.peer_epochs} epochs)",
        OURS: f" tiny ({settings.epochs} epochs)",
    }
    return f"{row['method']}{chosen.get(row['method'], '')}"


def table(rows: Sequence[dict[str, Any]], methods: Sequence[str], settings: Settings) -> str:
    """Markdown, mean ± sample standard deviation where there are several seeds."""
    head = ["product", "method", *(title for title, *_ in COLUMNS)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = []
        for _, (group, name), factor, digits in COLUMNS:
            figure = row["summary"][group][name]
            spread = "" if figure["std"] is None else f" ± {figure['std'] * factor:.{digits}f}"
            cells.append("–" if figure["mean"] is None else f"{figure['mean'] * factor:.{digits}f}{spread}")
        lines.append([row["product"], _described(row, settings), *cells])
    if set(methods) & set(PEERS):
        lines += [["all", method, reason, *[""] * (len(COLUMNS) - 1)] for method, reason in NOT_MEASURED.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Run, score, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--backbone-weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=(*PEERS, OURS), default=(*PEERS, OURS))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    parser.add_argument("--epochs", type=int, default=40, help="of our detector")
    parser.add_argument("--peer-epochs", type=int, default=20, help="of reverse distillation")
    parser.add_argument("--coreset-ratio", type=float, default=0.1, help="of PatchCore")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    settings = Settings(
        arguments.peer_python,
        arguments.backbone_weights,
        arguments.work,
        arguments.epochs,
        arguments.peer_epochs,
        arguments.coreset_ratio,
        arguments.threads,
    )
    rows = measure(settings, arguments.data, arguments.methods, arguments.seeds)
    result = {
        "settings": {
            name: getattr(arguments, name) for name in ("epochs", "peer_epochs", "coreset_ratio", "threads", "seeds")
        },
        "backbone_weights_sha256": file_sha256(settings.weights),
        "machine": {"processor": _processor(), "cores": len(os.sched_getaffinity(0))},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("tfanet-edge", "torch", "numpy", "scikit-learn")},
        },
        "not_measured": NOT_MEASURED,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    markdown = table(rows, arguments.methods, settings)
    arguments.out.with_suffix(".md").write_text(markdown + "\n")
    print(markdown)
    return 0


def _figures(metrics: ImageMetrics | PixelMetrics) -> dict[str, float | None]:
    """Without the threshold of the largest F1, which comes from test images."""
    return {name: value for name, value in asdict(metrics).items() if name != "f1_threshold"}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
