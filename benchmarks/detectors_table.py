"""What benchmarks/detectors.py measured, for people: tables, SNC against its own base, accuracy over time per frame.

Figures are fractions in the results and per cent in the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.figure import Figure as Picture
from measure import Spread

NOT_MEASURED = "not measured"
FIGURES = ("image AUROC", "pixel AUROC", "pixel AP", "AUPRO@0.3", "AUPRO@0.05")
PRECISIONS = ("fp32", "int8")
INT8_FIGURES = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro_30": "AUPRO@0.3"}
SNC = "+snc"
LOSS = "+loss"
COMPARED = ("AUPRO@0.3", "pixel AP", "image AUROC")
# Acceptance of SNC.
SEEDS_NEEDED, BASES_NEEDED, IMAGE_AUROC_LOSS = 3, 2, 0.002


@dataclass(frozen=True)
class Mean:
    """Over seeds.

    Attributes:
        mean: of one value or more.
        std: sample standard deviation; None of one value.
    """

    mean: float
    std: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Mean | None:
        """None of no value."""
        if not values:
            return None
        return Mean(fmean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Cell:
    """One training that was judged on test images.

    Attributes:
        figures: by name in FIGURES, 0..1; None where undefined.
    """

    variant: str
    product: str
    seed: int
    epochs: int
    training_s: float
    figures: Mapping[str, float | None]


def read_cells(results: Mapping[str, Any]) -> list[Cell]:
    """Those that did not fail."""
    names = ("variant", "product", "seed", "epochs", "training_s", "figures")
    return [Cell(**{name: of[name] for name in names}) for of in results["cells"].values() if "figures" in of]


def accuracy_table(cells: Sequence[Cell], variants: Iterable[str], products: Iterable[str]) -> str:
    """A row for each variant and product, and for each number of epochs that it was trained for."""
    lines = _head("product", "detector", "epochs", "seeds", *(f"{name}, %" for name in FIGURES), "training, s")
    variants = list(variants)
    for product in products:
        for variant in variants:
            found = [cell for cell in cells if (cell.product, cell.variant) == (product, variant)]
            if not found:
                lines.append(_row(product, variant, *[NOT_MEASURED] * (len(FIGURES) + 3)))
            for epochs in sorted({cell.epochs for cell in found}):
                of = [cell for cell in found if cell.epochs == epochs]
                figures = [text(_mean_of(of, name), 100, 1) for name in FIGURES]
                training = text(Mean.of([cell.training_s for cell in of]), 1, 0)
                lines.append(_row(product, variant, epochs, len(of), *figures, training))
    return "\n".join(lines)


def networks_table(networks: Mapping[str, Mapping[str, Any]], variants: Iterable[str]) -> str:
    """Size, multiply-accumulates and time of a frame."""
    lines = _head("detector", "FP32, MB", "INT8, MB", "GMAC", "in INT8", "FP32, ms per frame", "INT8, ms per frame")
    for name in variants:
        of = networks.get(name, {})
        files = [(of.get("files", {}).get(number, {}), _absent(of, number)) for number in PRECISIONS]
        sizes = [f"{file['bytes'] / 1e6:.1f}" if "bytes" in file else absent for file, absent in files]
        spreads = [
            Spread(**file["ms_per_frame"]).text(1) if "ms_per_frame" in file else absent for file, absent in files
        ]
        macs = f"{of['macs'] / 1e9:.2f}" if "macs" in of else NOT_MEASURED
        int8, absent = files[1]
        share = f"{int8['int8_share']:.0%}" if int8 else absent
        lines.append(_row(name, *sizes, macs, share, *spreads))
    return "\n".join(lines)


def int8_table(networks: Mapping[str, Mapping[str, Any]], variants: Iterable[str]) -> str:
    """What INT8 changes on test images, against FP32: figures in points, and verdicts."""
    lines = _head("detector", "product", *(f"{name}, points" for name in INT8_FIGURES.values()), "verdicts changed")
    for name in variants:
        of = networks.get(name, {})
        fp32, int8 = (of.get("files", {}).get(number) for number in PRECISIONS)
        if fp32 is None or int8 is None:
            lines.append(_row(name, of.get("product", ""), *[_absent(of, "int8")] * (len(INT8_FIGURES) + 1)))
            continue
        pairs = [(int8[key], fp32[key]) for key in INT8_FIGURES]
        changes = ["–" if a is None or b is None else f"{100 * (a - b):+.3f}" for a, b in pairs]
        lines.append(_row(name, of["product"], *changes, f"{int8['against_fp32']['flips']} of {of['images']}"))
    return "\n".join(lines)


def _absent(network: Mapping[str, Any], precision: str) -> str:
    """What stands in the place of a figure that is not there."""
    return "refused" if precision == "int8" and "fp32" in network.get("files", {}) else NOT_MEASURED


def snc_differences(
    cells: Sequence[Cell], base: str, products: Sequence[str], added: str
) -> dict[str, list[dict[str, float]]]:
    """`base + added` minus its base, of the same product, seed and number of epochs, by product; a dictionary per seed.

    Within "all" there is the mean over the products, of seeds that have all of them.
    """
    found: dict[str, dict[int, dict[str, float]]] = {product: {} for product in products}
    plain = {(c.product, c.seed, c.epochs): c for c in cells if c.variant == base}
    for cell in (cell for cell in cells if cell.variant == base + added):
        other = plain.get((cell.product, cell.seed, cell.epochs))
        if other is None or cell.product not in found:
            continue
        pairs = {name: (cell.figures[name], other.figures[name]) for name in COMPARED}
        known = {name: a - b for name, (a, b) in pairs.items() if a is not None and b is not None}
        if len(known) == len(COMPARED):
            found[cell.product][cell.seed] = known
    whole = set.intersection(*(set(of) for of in found.values())) if found else set()
    mean = [{name: fmean(of[seed][name] for of in found.values()) for name in COMPARED} for seed in sorted(whole)]
    return {**{product: [of[seed] for seed in sorted(of)] for product, of in found.items()}, "all": mean}


def passes(by_seed: Sequence[Mapping[str, float]]) -> bool | None:
    """Whether SNC raises AUPRO@0.3 and pixel AP and hardly lowers image AUROC; None with too few seeds."""
    if len(by_seed) < SEEDS_NEEDED:
        return None
    aupro, precision, image = (fmean(of[name] for of in by_seed) for name in COMPARED)
    return aupro > 0 and precision > 0 and image >= -IMAGE_AUROC_LOSS


def accepted(bases: Sequence[bool | None]) -> bool | None:
    """The rule over all bases; None while those that were not measured can decide it."""
    if sum(base is True for base in bases) >= BASES_NEEDED:
        return True
    return None if sum(base is not False for base in bases) >= BASES_NEEDED else False


def snc_table(cells: Sequence[Cell], bases: Iterable[str], products: Sequence[str], added: str) -> str:
    """Differences in points, and the verdict."""
    lines = _head("detector", "product", "seeds", *(f"{name}, points" for name in COMPARED), "passes")
    verdicts = []
    for base in bases:
        found = snc_differences(cells, base, products, added)
        verdicts.append(passes(found["all"]))
        for product, by_seed in found.items():
            means = [Mean.of([of[name] for of in by_seed]) for name in COMPARED]
            verdict = _verdict(verdicts[-1]) if product == "all" else ""
            texts = [text(mean, 100, 2, "+") for mean in means]
            lines.append(_row(base + added, product, len(by_seed), *texts, verdict))
    rule = (
        f"{added} raises AUPRO@0.3 and pixel AP on at least {BASES_NEEDED} bases over {SEEDS_NEEDED} seeds, "
        f"image AUROC not lower by more than {100 * IMAGE_AUROC_LOSS:g}"
    )
    return "\n".join([*lines, "", f"{rule}: {_verdict(accepted(verdicts))}"])


def points(
    cells: Sequence[Cell], networks: Mapping[str, Mapping[str, Any]], products: Sequence[str], figure: str
) -> dict[str, tuple[float, Mean]]:
    """Milliseconds of a frame in FP32, and the figure's mean over the products over seeds that have all of them."""
    found = {}
    for name, network in networks.items():
        by_seed: dict[int, dict[str, float]] = {}
        for cell in cells:
            value = cell.figures[figure]
            if cell.variant == name and cell.product in products and value is not None:
                by_seed.setdefault(cell.seed, {})[cell.product] = value
        mean = Mean.of([fmean(of.values()) for of in by_seed.values() if len(of) == len(products)])
        times = network.get("files", {}).get("fp32", {}).get("ms_per_frame")
        if mean is not None and times is not None:
            found[name] = times["median"], mean
    return found


def pareto_front(of: Mapping[str, tuple[float, Mean]]) -> list[str]:
    """Names of those that none beats in both, from the fastest to the most accurate."""
    front: list[str] = []
    for name in sorted(of, key=lambda name: (of[name][0], -of[name][1].mean)):
        if not front or of[name][1].mean > of[front[-1]][1].mean:
            front.append(name)
    return front


def draw(cells: Sequence[Cell], networks: Mapping[str, Mapping[str, Any]], products: Sequence[str], path: Path) -> bool:
    """AUPRO@0.3 and image AUROC over time per frame as PNG; without a point there is no picture, and False."""
    of_figures = {name: points(cells, networks, products, name) for name in ("AUPRO@0.3", "image AUROC")}
    if not all(of_figures.values()):
        return False
    picture = Picture(figsize=(11, 5), layout="constrained")
    for axes, (figure, of) in zip(picture.subplots(1, 2), of_figures.items(), strict=True):
        for name, (ms, value) in of.items():
            axes.errorbar(ms, 100 * value.mean, yerr=100 * (value.std or 0), fmt="o", capsize=3, label=name)
        front = [of[name] for name in pareto_front(of)]
        axes.plot([ms for ms, _ in front], [100 * value.mean for _, value in front], color="grey", linestyle=":")
        axes.set_xlim(left=0)
        axes.set_xlabel("ms per frame, FP32, ONNX Runtime on the CPU")
        axes.set_ylabel(f"{figure}, %, mean of {len(products)} products")
        axes.grid(visible=True, which="both", alpha=0.3)
    picture.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    picture.savefig(path, dpi=110)
    return True


def text(value: Mean | None, factor: float, digits: int, sign: str = "") -> str:
    """`mean ± deviation`."""
    if value is None:
        return NOT_MEASURED
    spread = "" if value.std is None else f" ± {factor * value.std:.{digits}f}"
    return f"{factor * value.mean:{sign}.{digits}f}{spread}"


def _mean_of(cells: Sequence[Cell], name: str) -> Mean | None:
    values = [value for cell in cells if (value := cell.figures[name]) is not None]
    return Mean.of(values) if len(values) == len(cells) else None


def _verdict(passed: bool | None) -> str:
    return {True: "yes", False: "no", None: NOT_MEASURED}[passed]


def _head(*names: str) -> list[str]:
    return [_row(*names), "|---" * len(names) + "|"]


def _row(*values: object) -> str:
    return f"| {' | '.join(map(str, values))} |"
