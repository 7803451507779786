"""The course of a training as a picture and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.checkpoint import Epoch
from training.files import write_text


def write_history(history: Sequence[Epoch], path: Path) -> None:
    """All epochs, in order."""
    write_text(path, json.dumps([asdict(epoch) for epoch in history], indent=1) + "\n")


def draw_curves(history: Sequence[Epoch], best_epoch: int, path: Path) -> None:
    """Losses over epochs, logarithmic, with the epoch whose weights are the result.

    Args:
        history: at least one epoch.
        best_epoch: index into it.
        path: PNG file to write.
    """
    numbers = range(1, len(history) + 1)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(numbers, [epoch.train_loss for epoch in history], ".-", label="training, with masking")
    held_out = [epoch.held_out_loss for epoch in history]
    if any(loss is not None for loss in held_out):
        axes.plot(numbers, [float("nan") if loss is None else loss for loss in held_out], ".-", label="held-out good")
    axes.axvline(best_epoch + 1, color="grey", linestyle=":", label=f"result: epoch {best_epoch + 1}")
    axes.set_yscale("log")
    axes.set_xlim(0.5, len(history) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss: 5 (1 − cos) + squared error")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)
