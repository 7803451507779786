"""Figures of runs that differ only in their seed, as mean and spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TypeAlias

Figure: TypeAlias = "float | Mapping[str, Figure] | None"
Summary: TypeAlias = "dict[str, float | Summary | None]"


def over_seeds(runs: Sequence[Mapping[str, Figure]]) -> Summary:
    """Mean and sample standard deviation (divisor n - 1) of every figure.

    Args:
        runs: one or more dictionaries of the same keys, one per seed; they may nest; None is an undefined figure.

    Returns:
        The same nesting with `{"mean": ..., "std": ...}` for each figure: both None where any run's figure is None,
        `std` None where there is one run only.

    Raises:
        ValueError: no run, keys that differ between runs, or a figure that is not finite; names the key.
    """
    if not runs:
        raise ValueError("no run to summarise")
    partial = set().union(*runs) - set(runs[0]).intersection(*runs)
    if partial:
        raise ValueError(f"not every run has {sorted(partial)}")
    return {key: _summary(key, [run[key] for run in runs]) for key in runs[0]}


def _summary(key: str, values: Sequence[Figure]) -> Summary:
    groups = [value for value in values if isinstance(value, Mapping)]
    figures = [float(value) for value in values if value is not None and not isinstance(value, Mapping)]
    if groups and len(groups) == len(values):
        return over_seeds(groups)
    if groups:
        raise ValueError(f"{key!r} is a group in some runs and a figure in others")
    if not all(math.isfinite(figure) for figure in figures):
        raise ValueError(f"{key!r} is not finite in every run: {figures}")
    if len(figures) < len(values):
        return {"mean": None, "std": None}
    return {"mean": fmean(figures), "std": stdev(figures) if len(figures) > 1 else None}
