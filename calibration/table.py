"""A calibration in words: the table on the terminal, and the line that refuses."""

from __future__ import annotations

from pathlib import Path

from calibration.calibrate import Calibrated
from calibration.evidence import Cost, Tolerance
from calibration.int8 import Network
from edge.bundle import Bundle
from edge.errors import RefusedError
from edge.manifest import Variant


def table(bundle: Bundle, network: Network, found: Calibrated, variant: Variant, size_bytes: int) -> str:
    """What each part of the network costs in INT8, what was chosen, and how far the result is from fp32."""
    assert found.selection.chosen is not None
    assert variant.quantisation is not None
    layers = {group.name: f"{group.layers} of {group.of_layers}" for group in variant.quantisation.groups}
    rows = [("part of the network", "work", "ranges", "map error", "score error", "layers in INT8")]
    for group, nodes in network.groups.items():
        single = found.singles[group]
        errors = f"{single.map_error:.2%}", f"{single.score_error:.2%}"
        row = group, f"{network.share(nodes):.1%}", found.methods[group], *errors, layers.get(group, "none")
        rows.append(row)
    cost, total = found.selection.chosen.cost, variant.quantisation.int8_share
    rows.append(("int8, the rest fp16", f"{total:.1%}", "", f"{cost.map_error:.2%}", f"{cost.score_error:.2%}", ""))
    lines = [f"{row[0]:<21}{row[1]:>7}{row[2]:>12}{row[3]:>11}{row[4]:>13}{row[5]:>16}" for row in rows]
    fp32_bytes = (bundle.path / bundle.variant("fp32").file).stat().st_size
    lines += [
        f"against fp32: {_accuracy(cost)}",
        f"file: {size_bytes / 1e6:.1f} MB, {size_bytes / fp32_bytes:.0%} of fp32's {fp32_bytes / 1e6:.1f} MB",
        f"written: {bundle.path / Path(variant.file)}",
    ]
    return "\n".join(lines)


def refusal(found: Calibrated, tolerance: Tolerance) -> RefusedError:
    """Why there is no INT8 variant, with the candidate that came closest."""
    with_int8 = (candidate for candidate in found.selection.tried if candidate.nodes)
    closest = min(with_int8, key=lambda candidate: tolerance.excess(candidate.cost))
    return RefusedError(
        f"no part of the network stays within {tolerance.flip_share:.2%} changed verdicts, {tolerance.swap_share:.2%} "
        f"swapped pairs, {tolerance.auroc:.2%} AUROC "
        f"and {tolerance.aupro:.2%} AUPRO in INT8; closest is INT8 in {closest.label}: {_accuracy(closest.cost)}",
        "stay with fp16, or allow more",
    )


def _accuracy(cost: Cost) -> str:
    flips = max(cost.flip_share, cost.expected_flip_share)
    return (
        f"{flips:.2%} of the verdicts change and {cost.swap_share:.2%} of the good parts' order, "
        f"image AUROC by {cost.auroc:+.2%}, pixel AUROC by {cost.pixel_auroc:+.2%}, AUPRO by {cost.aupro:+.2%} "
        "(minus: better)"
    )
