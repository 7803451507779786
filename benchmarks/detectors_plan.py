"""What the comparison of detectors measures, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectors_table import LOSS, SNC

from training.settings import TrainSettings, starting_point


@dataclass(frozen=True)
class Variant:
    """A row of the tables: a detector and options of `train` that make it this one."""

    detector: str
    options: tuple[str, ...] = ()

    def scaled(self, scale: float) -> tuple[int, list[str]]:
        """Epochs, a part of its recipe's, and all options of `train`."""
        settings = TrainSettings.model_validate(starting_point(self.detector, None, None))
        epochs = max(1, round(scale * settings.epochs))
        return epochs, ["--detector", self.detector, "--epochs", str(epochs), *self.options]


def _with_snc(base: str) -> dict[str, Variant]:
    """A base, with SNC's map, and with the paper's loss as well."""
    return {
        base: Variant(base, ("--snc", "none")),
        base + SNC: Variant(base, ("--snc", "relation")),
        base + SNC + LOSS: Variant(base, ("--snc", "relation", "--high-weight", "1")),
    }


# Cheap ones first.
VARIANTS: Mapping[str, Variant] = {
    **_with_snc("stfpm"),
    "tfanet": Variant("tfanet"),
    "mfrnet": Variant("mfrnet"),
    **_with_snc("reverse_distillation"),
    **_with_snc("efficientad"),
}


@dataclass(frozen=True)
class Plan:
    """One cell of the comparison.

    Attributes:
        options: of `train` that decide the result, all but the seed.
    """

    variant: str
    data: Path
    seed: int
    epochs: int
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name in the results."""
        return f"{self.variant}/{self.data.name}/{self.seed}"


def planned(
    names: Sequence[str],
    products: Sequence[Path],
    seeds: Sequence[int],
    scales: Mapping[str, float],
    more: Mapping[str, Sequence[str]],
) -> list[Plan]:
    """All cells in the order in which they are measured.

    Args:
        names: of VARIANTS.
        products: directories.
        seeds: of each.
        scales: what part of its recipe's length a detector is trained for; under "" of those that are not named.
        more: options of `train` for a detector, after those for all under "".
    """
    plans = []
    for seed in seeds:
        for name in (name for name in VARIANTS if name in names):
            variant = VARIANTS[name]
            epochs, options = variant.scaled(scales.get(variant.detector, scales[""]))
            options += [*more.get("", ()), *more.get(variant.detector, ())]
            plans += [Plan(name, data, seed, epochs, tuple(options)) for data in products]
    return plans


def described(plan: Plan) -> dict[str, Any]:
    """What a result says of where it comes from."""
    names = {"variant": plan.variant, "product": plan.data.name, "seed": plan.seed, "epochs": plan.epochs}
    return {**names, "options": list(plan.options)}


def is_measured(found: Mapping[str, Any] | None, plan: Plan) -> bool:
    """Whether a result is of this very cell, and no failure."""
    return found is not None and "failed" not in found and found["options"] == list(plan.options)
