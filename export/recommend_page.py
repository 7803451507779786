"""What people read of a recommendation: a table for a terminal, and a page with accuracy over time."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from matplotlib.figure import Figure as Plot

from edge.bench.result import MachineFacts
from export.choice import CONFIDENCE, MIN_PARTS, Choice, Measured
from export.page import Figure, Page, Section, Table, render

HEADER = ("detector", "separation", f"{CONFIDENCE:.0%} interval", "ms, 95 %", "ms, median", "MB", "GMAC", "training, s")


def recommendation_table(candidates: Sequence[Measured], choice: Choice, budget_ms: float) -> str:
    """For a terminal; the chosen one is marked, and so is who exceeds the budget."""
    rows = [HEADER, *(_cells(one) for one in candidates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    marks = ["", *(_mark(one, choice, budget_ms) for one in candidates)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    marked = [f"{line}  {mark}".rstrip() for line, mark in zip(lines, marks, strict=True)]
    return "\n".join([*marked, "", choice.reason, *_warnings(candidates)])


def recommendation_page(
    product: str, candidates: Sequence[Measured], choice: Choice, budget_ms: float, machine: MachineFacts
) -> str:
    """One HTML file.

    Args:
        product: its name.
        candidates: all that were measured.
        choice: among them.
        budget_ms: for the network's answer to a frame.
        machine: that the times hold for.
    """
    rows = tuple((*_cells(one), _mark(one, choice, budget_ms)) for one in candidates)
    trained = [one for one in candidates if one.is_trained]
    page = Page(
        title=f"{product}: which detector within {budget_ms:g} ms?",
        summary=(
            choice.reason,
            *(_evidence(one) for one in trained[:1]),
            "The trainings were short and the defects drawn by a program: this ranks detectors, it does not tell how "
            "many real defects one finds.",
        ),
        warnings=_warnings(candidates),
        facts=(
            ("Budget", f"{budget_ms:g} ms, held against the time that 95 % of the frames take"),
            ("Machine", f"{machine.model}, {machine.cores} cores, load before {machine.load_average:g}"),
            ("Runtime", "ONNX Runtime, fp32, the network alone: neither camera nor conversion of the frame"),
        ),
        sections=(
            Section(
                "Separation over time",
                (),
                (Table((*HEADER, "result"), rows, "Smallest preset of each detector."),),
                (
                    Figure(
                        _plot(candidates, choice, budget_ms), "separation over time per frame", "Up and left is good."
                    ),
                ),
            ),
        ),
    )
    return render(page)


def _evidence(one: Measured) -> str:
    return (
        f"Separation: how often a damaged part scores above a good one, from {len(one.good_scores)} held-out good "
        f"parts and {len(one.damaged_scores[0])} copies of each with a drawn defect. No test image was opened."
    )


def _cells(one: Measured) -> tuple[str, ...]:
    separation = interval = "not trained"
    if one.is_trained:
        separation = f"{one.auroc:.3f}"
        interval = "unknown" if one.interval is None else "{:.3f} to {:.3f}".format(*one.interval)
    return (
        f"{one.title} {one.preset}",
        separation,
        interval,
        f"{one.p95_ms:.1f}",
        f"{one.median_ms:.1f}",
        f"{one.model_bytes / 1e6:.1f}",
        f"{one.multiply_accumulates / 1e9:.2f}",
        f"{one.training_s:.0f}",
    )


def _mark(one: Measured, choice: Choice, budget_ms: float) -> str:
    if one is choice.chosen:
        return "recommended"
    if one.p95_ms > budget_ms:
        return "over the budget"
    return "as good within noise" if one in choice.as_good else "separates less"


def _warnings(candidates: Sequence[Measured]) -> tuple[str, ...]:
    trained = [one for one in candidates if one.is_trained]
    warnings = []
    if any(one.interval is None for one in trained):
        parts = len(trained[0].good_scores)
        warnings.append(
            f"Only {parts} held-out good parts: fewer than {MIN_PARTS} tell no detectors apart, the quickest is taken."
        )
    blind = [one.title for one in trained if one.interval is not None and one.interval[0] <= 0.5]
    if blind:
        names = ", ".join(blind)
        warnings.append(f"Not shown to see the drawn defects at all: {names}. Train longer (--epochs-share).")
    return tuple(warnings)


def _plot(candidates: Sequence[Measured], choice: Choice, budget_ms: float) -> bytes:
    figure = Plot(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for one in (one for one in candidates if one.is_trained):
        low, high = one.interval or (one.auroc, one.auroc)
        errors = [[max(0.0, one.auroc - low)], [max(0.0, high - one.auroc)]]
        is_chosen = one is choice.chosen
        axes.errorbar(one.p95_ms, one.auroc, errors, fmt="*" if is_chosen else "o", markersize=14 if is_chosen else 6)
        axes.annotate(one.title, (one.p95_ms, one.auroc), xytext=(8, 4), textcoords="offset points")
    axes.axvline(budget_ms, color="grey", linestyle=":", label=f"budget: {budget_ms:g} ms")
    axes.set_xlabel("ms per frame, 95 %")
    axes.set_ylabel("separation of drawn defects")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()
