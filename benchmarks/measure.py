"""What the timing benchmarks share: cases run in turn, their spread, the machine in words, detectors to time."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from edge.frame import Image
from export.graph import detector_graph
from training.networks.backbones import Backbone, BackboneName, build_backbone
from training.networks.detector import Detector
from training.networks.tfanet import PRESETS, PresetName, TFANet
from training.networks.unfolded import UnfoldedDetector

BACKBONES: Mapping[PresetName, BackboneName] = {"base": "wide_resnet50_2", "small": "resnet18", "tiny": "resnet18"}


@dataclass(frozen=True)
class Spread:
    """Median and range."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return Spread(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """`median (low to high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def rounded(self) -> dict[str, float]:
        """For a JSON file, four significant digits."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


def interleaved_ms(cases: Mapping[str, Callable[[], object]], rounds: int, frames: int) -> dict[str, list[list[float]]]:
    """Milliseconds of every call, by case and round.

    Each round runs every case, so that a drift of the machine's speed meets all of them; the first call of a case in a
    round warms up and is not counted.
    """
    times: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, run in cases.items():
            run()
            times[name].append([_ms(run) for _ in range(frames)])
    return times


def round_medians(times: Sequence[Sequence[float]]) -> list[float]:
    """The median of each round."""
    return [statistics.median(of_round) for of_round in times]


def random_image(seed: int) -> Image:
    """uint8 (1,256,256,3)."""
    return np.random.default_rng(seed).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)


def random_backbone(name: BackboneName) -> Backbone:
    """Frozen, in eval mode, weights as initialised: what they are changes no duration."""
    torch.manual_seed(0)
    return build_backbone(name).eval().requires_grad_(False)


def both_detectors(backbone: Backbone, preset: PresetName) -> tuple[UnfoldedDetector, Detector]:
    """One network with random weights: as the release computes it, and folded; they share the transformer."""
    torch.manual_seed(0)
    network = TFANet(sum(backbone.tap_channels), PRESETS[preset]).eval().requires_grad_(False)
    template = random_image(seed=0)
    folded = detector_graph(deepcopy(backbone), network, template, "std", "product", half_weights=False)
    return UnfoldedDetector(backbone, network, template).eval(), folded


def relative_difference(given: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest absolute difference, as a share of the largest value expected."""
    return float((given.float() - expected).abs().max() / expected.abs().max())


def environment(packages: Sequence[str]) -> dict[str, object]:
    """Processor, cores and versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _ms(run: Callable[[], object]) -> float:
    started_ns = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - started_ns) / 1e6


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()
