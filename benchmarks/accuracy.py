"""How good the detector is on real products: trains and evaluates each with every seed, as a person would.

    .venv/bin/python benchmarks/accuracy.py --weights resnet18.pth --work runs --product bottle:30 --product tire:100

trains on `bottle` for 30 epochs and on `tire` for 100; the rest is the preset's recipe. What is trained already under
`--work` is not trained again. Figures are at the files' resolution; several seeds give mean ± standard deviation. The
result file keeps products that a later call does not name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "accuracy.json"
COLUMNS = {
    "image AUROC": ("image", "auroc"),
    "image AP": ("image", "ap"),
    "image F1-max": ("image", "f1_max"),
    "pixel AUROC": ("pixel_original", "auroc"),
    "pixel AP": ("pixel_original", "ap"),
    "pixel F1-max": ("pixel_original", "f1_max"),
    "AUPRO@0.3": ("pixel_original", "aupro_30"),
    "AUPRO@0.05": ("pixel_original", "aupro_05"),
}


def tfanet_edge(*arguments: str) -> None:
    """Run a verb; its progress goes to the terminal."""
    subprocess.run([sys.executable, "-m", "edge.cli", *arguments], check=True, stdout=subprocess.DEVNULL)


def measure(data: Path, epochs: int, weights: Path, seeds: list[int], work: Path, options: list[str]) -> dict[str, Any]:
    """Train and evaluate one product."""
    runs = [work / f"{data.name}.s{seed}" for seed in seeds]
    for run, seed in zip(runs, seeds, strict=True):
        where = ["--data", str(data), "--weights", str(weights), "--out", str(run)]
        tfanet_edge("train", *where, "--epochs", str(epochs), "--seed", str(seed), *options)
    report, of_runs = work / f"{data.name}.json", [f"--run={run}" for run in runs]
    tfanet_edge("evaluate", *of_runs, "--data", str(data), "--json", str(report), "--report", str(work / data.name))
    evaluated = json.loads(report.read_text(encoding="utf-8"))
    record = json.loads((runs[0] / "run.json").read_text(encoding="utf-8"))
    histories = [json.loads((run / "history.json").read_text(encoding="utf-8")) for run in runs]
    return {
        "options": options,
        "epochs": epochs,
        "seeds": seeds,
        "test_images": evaluated["test_images"],
        "figures": evaluated["figures"],
        "training_s": [sum(epoch["seconds"] for epoch in history) for history in histories],
        "held_out_loss": [min(epoch["held_out_loss"] for epoch in history) for history in histories],
        "run": {name: record[name] for name in record if name not in ("command", "skipped")},
    }


def table(products: dict[str, dict[str, Any]]) -> str:
    """As Markdown, per cent."""
    lines = [f"| product | epochs | {' | '.join(COLUMNS)} | error ratio |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name, product in products.items():
        total = product["figures"]["total"]
        cells = [_cell(total[part][figure], 100, 1) for part, figure in COLUMNS.values()]
        lines.append(f"| {name} | {product['epochs']} | {' | '.join(cells)} | {_cell(total['error_ratio'], 1, 2)} |")
    return "\n".join(lines)


def _cell(summary: dict[str, float | None], factor: float, digits: int) -> str:
    if summary["mean"] is None:
        return "–"
    spread = "" if summary["std"] is None else f" ± {summary['std'] * factor:.{digits}f}"
    return f"{summary['mean'] * factor:.{digits}f}{spread}"


def _product(text: str) -> tuple[Path, int]:
    directory, _, epochs = text.rpartition(":")
    if not directory or not epochs.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not DIR:EPOCHS")
    return Path(directory), int(epochs)


def main() -> None:
    """Command line; options it does not know go to `train`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", type=_product, action="append", required=True, metavar="DIR:EPOCHS")
    parser.add_argument("--weights", type=Path, required=True, help="backbone's state dict")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--work", type=Path, required=True, help="where runs and reports are kept")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments, options = parser.parse_known_args()
    out: Path = arguments.out
    products = json.loads(out.read_text(encoding="utf-8"))["products"] if out.is_file() else {}
    for data, epochs in arguments.product:
        products[data.name] = measure(data, epochs, arguments.weights, arguments.seeds, arguments.work, options)
        out.write_text(json.dumps({"products": products}, indent=1) + "\n", encoding="utf-8")
    print(table(products))


if __name__ == "__main__":
    main()
