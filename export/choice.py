"""Which of several measured detectors to take: the rule, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

MIN_PARTS = 5
CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 0

Float = npt.NDArray[np.float64]


class Measured(BaseModel):
    """A briefly trained detector's figures, or those of one that was too slow to be trained.

    There is a score for every held-out good part, and for each part's damaged copies; none without a training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    detector: str
    title: str
    preset: str
    backbone: str
    epochs: int = 0
    training_s: float = 0
    median_ms: float = Field(gt=0, description="of the network on this machine, one frame at a time")
    p95_ms: float = Field(gt=0, description="what is held against the budget")
    model_bytes: int
    multiply_accumulates: int
    good_scores: tuple[float, ...] = ()
    damaged_scores: tuple[tuple[float, ...], ...] = ()

    @property
    def is_trained(self) -> bool:
        """Whether there are scores, and with them `auroc`."""
        return bool(self.good_scores)

    @property
    def auroc(self) -> float:
        """Probability that a damaged part scores above a good one."""
        return float(self._wins().mean())

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of `auroc`, at CONFIDENCE; None with fewer than MIN_PARTS parts."""
        return _interval(self._wins())

    def is_better_than(self, other: Measured) -> bool:
        """Whether the same parts show it beyond noise; never with fewer than MIN_PARTS."""
        found = _interval(self._wins() - other._wins())
        return found is not None and found[0] > 0

    def _wins(self) -> Float:
        """(n, n): share of part j's damaged copies that score above good part i; equal scores count half."""
        good, damaged = np.array(self.good_scores)[:, None, None], np.array(self.damaged_scores)
        wins: Float = ((damaged > good) + (damaged == good) / 2).mean(axis=2)
        return wins


@dataclass(frozen=True)
class Choice:
    """The detector to take, None where none fits the budget; why, in a sentence; and who is as good within noise."""

    chosen: Measured | None
    reason: str
    as_good: tuple[Measured, ...] = ()


def choose(candidates: Sequence[Measured], budget_ms: float) -> Choice:
    """Of those within the budget the quickest that none of them beats beyond noise.

    Args:
        candidates: one at least, all measured on the same parts; those within the budget are trained.
        budget_ms: for the network's answer to a frame.
    """
    fitting = [one for one in candidates if one.p95_ms <= budget_ms]
    if not fitting:
        quickest = min(candidates, key=lambda one: one.p95_ms)
        return Choice(
            None,
            f"No detector fits {budget_ms:g} ms; the quickest, {quickest.title}, takes {quickest.p95_ms:.1f} ms.",
        )
    best = max(fitting, key=lambda one: (one.auroc, -one.p95_ms))
    as_good = tuple(one for one in fitting if not best.is_better_than(one))
    chosen = min(as_good, key=lambda one: one.p95_ms)
    others = ", ".join(one.title for one in as_good if one is not chosen)
    if len(fitting) == 1:
        reason = f"{chosen.title} is the only one within {budget_ms:g} ms."
    elif not others:
        reason = f"{chosen.title} separates best, beyond noise, of all within {budget_ms:g} ms."
    else:
        reason = f"{chosen.title} is the quickest of those that the evidence cannot tell apart (besides it: {others})."
    return Choice(chosen, reason, as_good)


def _interval(wins: Float) -> tuple[float, float] | None:
    """Of the mean of (n, n) figures of pairs of parts, by drawing parts with replacement (the percentile bootstrap)."""
    parts = len(wins)
    if parts < MIN_PARTS:
        return None
    drawn = np.random.default_rng(_SEED).multinomial(parts, np.full(parts, 1 / parts), _RESAMPLES) / parts
    means = np.einsum("ri,ij,rj->r", drawn, wins, drawn, optimize=True)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
