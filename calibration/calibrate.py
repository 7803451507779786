"""From good parts to an INT8 network: ranges, each group's method, and the largest part within the tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.evidence import Cost, Evidence, Tolerance
from calibration.int8 import Network, Ranges, channel_means, limits, quantise
from calibration.ranges import Method
from calibration.selection import Measure, Selection, select
from calibration.statistics import collect, statistics_key
from edge.errors import ConfigError
from edge.frame import Image
from training.image_sets import images_sha256


@dataclass(frozen=True, eq=False)
class Calibrated:
    """What a calibration found.

    Attributes:
        by_method: what each group alone costs, by the method of its ranges; on a few images.
        methods: the method with the least map error, of each group.
        selection: every set of nodes that was measured, and the chosen one.
        model: of the chosen set, ONNX; None where nothing is within the tolerance.
    """

    by_method: Mapping[str, Mapping[Method, Cost]]
    methods: Mapping[str, Method]
    selection: Selection
    model: bytes | None

    @property
    def singles(self) -> Mapping[str, Cost]:
        """What each group alone costs with the ranges taken."""
        return {group: costs[self.methods[group]] for group, costs in self.by_method.items()}


def measure_ranges(network: Network, images: Image, cache: Path) -> Ranges:
    """Statistics of every tensor over the calibration images, kept in the cache directory.

    Args:
        network: prepared.
        images: uint8 (N,256,256,3), good parts.
        cache: made when missing; goes on with what an earlier call began.

    Raises:
        ConfigError: the cache cannot be written.
        EngineError: ONNX Runtime refuses the network, or a value is not finite.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"directory '{cache}' cannot be made ({error.strerror})", "give another with --cache"
        ) from error
    model = network.model.SerializeToString(deterministic=True)
    store = cache / f"{statistics_key(model, images_sha256(images), network.tensors)[:32]}.npz"
    return Ranges(collect(network.model, network.tensors, images, store), channel_means(network, images))


def calibrate(
    network: Network,
    ranges: Ranges,
    few: Evidence,
    evidence: Evidence,
    tolerance: Tolerance,
    methods: Sequence[Method],
) -> Calibrated:
    """Choose and build.

    Args:
        network: prepared.
        ranges: from `measure_ranges`.
        few: the images that the methods are compared on.
        evidence: the images that sets of nodes are judged on.
        tolerance: what INT8 may cost.
        methods: to choose from.
    """
    by_method = {
        group: {method: _alone(network, ranges, group, method, few) for method in methods} for group in network.groups
    }
    taken = {group: min(costs, key=lambda method: costs[method].map_error) for group, costs in by_method.items()}
    limit = limits(network, ranges, taken)

    def measured_on(evidence: Evidence) -> Measure:
        return lambda nodes, label: evidence.cost(quantise(network, nodes, limit, ranges), label)

    selection = select(
        network.groups,
        {group: costs[taken[group]] for group, costs in by_method.items()},
        network.work,
        measured_on(few),
        measured_on(evidence),
        tolerance,
    )
    best = selection.chosen
    model = None if best is None else quantise(network, best.nodes, limit, ranges)
    return Calibrated(by_method, taken, selection, model)


def _alone(network: Network, ranges: Ranges, group: str, method: Method, evidence: Evidence) -> Cost:
    nodes = frozenset(network.groups[group])
    model = quantise(network, nodes, limits(network, ranges, {group: method}), ranges)
    return evidence.cost(model, f"{group}: {method}")
