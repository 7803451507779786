"""Whether two detectors together find more than the better of them: the mean of their quantile-normalised maps.

    .venv/bin/python benchmarks/ensembles.py --work runs/detectors --data piped/PA_BDP01_TL bottle

Takes the trainings that benchmarks/detectors.py left under `--work`, with one length of each variant per product. Each
map is divided by how far its 99.5 % quantile lies above its 90 % quantile on held-out good parts, at 256×256; an
image's score is the deviation of its map, that of a single detector is its own. Every pair of variants is judged on
the products and seeds that both have, against the member whose AUPRO@0.3 is higher there. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from detectors_plan import VARIANTS
from measure import environment

from edge.manifest import ScoreRule
from training.data.good_parts import load_good_parts
from training.evaluation.predict import Float, LabelledParts, anomaly_maps, image_scores, predict, read_parts
from training.files import write_text
from training.metrics.image import image_metrics
from training.metrics.pixel import pixel_metrics
from training.run import Run, load_run

RESULT = Path(__file__).parent / "results" / "ensembles.json"
PACKAGES = ("tfanet-edge", "numpy", "torch")
LOW, HIGH = 0.9, 0.995
RULE: ScoreRule = "std"
FIGURES = ("AUPRO@0.3", "pixel AP", "image AUROC")
Figures = dict[str, float | None]


def runs_of(work: Path, product: str, seed: int) -> dict[str, Run]:
    """The training of each variant, by its name.

    Raises:
        SystemExit: there is one of another length too.
    """
    found: dict[str, Run] = {}
    for name in VARIANTS:
        judged = [path.parent for path in work.glob(f"{name}.e*/{product}.s{seed}/evaluation.json")]
        if len(judged) > 1:
            raise SystemExit(f"which of {', '.join(map(str, judged))}? Leave one of them under --work")
        if judged:
            found[name] = load_run(judged[0] / "run")
    return found


def normalised_maps(run: Run, data: Path, parts: LabelledParts, device: torch.device) -> tuple[Float, Figures]:
    """What a detector says of the test images, divided by its spread on good parts; and its own figures."""
    settings = run.record.settings
    good = load_good_parts(data, settings.data, settings.seed)
    fusion = settings.network.fusion
    on_good = anomaly_maps(predict(run, list(good.held_out), device), fusion)
    low, high = np.quantile(on_good.astype(np.float64), (LOW, HIGH))
    maps = anomaly_maps(predict(run, parts.images, device), fusion)
    return maps / np.float32(high - low), figures_of(maps, settings.score_rule, parts)


def figures_of(maps: Float, rule: ScoreRule, parts: LabelledParts) -> Figures:
    """Per image, and per pixel of 256×256 without defective images that have no mask."""
    masked = [(i, part.gt_mask_256) for i, part in enumerate(parts.parts) if part.gt_mask_256 is not None]
    pixel, _ = pixel_metrics((maps[i] for i, _ in masked), [mask for _, mask in masked], None)
    return {
        "AUPRO@0.3": pixel.aupro_30,
        "pixel AP": pixel.ap,
        "image AUROC": image_metrics(image_scores(maps, rule), parts.defective).auroc,
    }


def measured(work: Path, data: Path, seed: int, device: torch.device) -> dict[str, Figures]:
    """Figures of every variant alone and of every pair, `a & b`, of one product and seed."""
    runs = runs_of(work, data.name, seed)
    if len(runs) < 2:
        return {}
    parts = read_parts(data, next(iter(runs.values())).record.settings.data)
    maps, figures = {}, {}
    for name, run in runs.items():
        print(f"{data.name}, seed {seed}: {name}", file=sys.stderr)
        maps[name], figures[name] = normalised_maps(run, data, parts, device)
    for first, second in combinations(runs, 2):
        figures[f"{first} & {second}"] = figures_of((maps[first] + maps[second]) / 2, RULE, parts)
    return figures


def gains(cells: Mapping[str, Mapping[str, Figures]]) -> Iterator[tuple[str, str, int, list[dict[str, float]]]]:
    """Each pair, its better member, how many products, and per seed the pair minus that member, mean over products.

    Only seeds that both members have of all of these products.
    """
    pairs = sorted({name for of in cells.values() for name in of if " & " in name})
    for pair in pairs:
        there = {key: of for key, of in cells.items() if pair in of and None not in of[pair].values()}
        mean = {name: fmean(of[name]["AUPRO@0.3"] or 0 for of in there.values()) for name in pair.split(" & ")}
        better = max(mean, key=lambda name: mean[name])
        products = sorted({key.split("/")[0] for key in there})
        seeds = sorted({key.split("/")[1] for key in there})
        by_seed = [
            {name: fmean(_difference(there[f"{p}/{seed}"], pair, better, name) for p in products) for name in FIGURES}
            for seed in seeds
            if all(f"{product}/{seed}" in there for product in products)
        ]
        yield pair, better, len(products), by_seed


def table(cells: Mapping[str, Mapping[str, Figures]]) -> str:
    """Differences in points."""
    head = ["pair", "better member", "products", "seeds", *(f"{name}, points" for name in FIGURES)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for pair, better, products, by_seed in gains(cells):
        texts = [_text([of[name] for of in by_seed]) for name in FIGURES]
        lines.append(f"| {pair} | {better} | {products} | {len(by_seed)} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _difference(of: Mapping[str, Figures], pair: str, better: str, name: str) -> float:
    first, second = of[pair][name], of[better][name]
    assert first is not None
    assert second is not None
    return first - second


def _text(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    spread = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):+.2f}{spread}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="products")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where runs are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    cells: dict[str, dict[str, Figures]] = {}
    result: dict[str, Any] = {"cells": cells, "machine": environment(PACKAGES)}
    for seed in arguments.seeds:
        for data in arguments.data:
            if found := measured(arguments.work, data, seed, device):
                cells[f"{data.name}/{seed}"] = found
                write_text(arguments.out, json.dumps(result, indent=1) + "\n")
    print(table(cells))


if __name__ == "__main__":
    main()
