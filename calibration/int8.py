"""A float32 network, ready to be given INT8 in any of its nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from calibration.histogram import Histogram
from calibration.qdq import insert_qdq
from calibration.ranges import Method, clipping_limit
from edge.errors import BundleError
from edge.frame import Image
from export.cost import multiply_accumulates
from export.half import to_half
from export.onnx_graph import Parts, fold_constants, group_of, links, name_nodes, weighted_nodes
from export.probe import Probe
from training.image_sets import evenly

Float = npt.NDArray[np.float32]
MAX_MEAN_IMAGES = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A float32 network and the work in it.

    Attributes:
        model: its constants folded, its nodes named.
        groups: names of the weighted nodes by group, in the order a frame passes them.
        work: multiply-accumulates of a frame by node, attention's and the map's as well.
        inputs: by weighted node, the tensor it reads.
    """

    model: onnx.ModelProto
    groups: Mapping[str, Sequence[str]]
    work: Mapping[str, int]
    inputs: Mapping[str, str]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Everything that weighted nodes read, each once."""
        return tuple(dict.fromkeys(self.inputs.values()))

    def share(self, nodes: Collection[str]) -> float:
        """What part of a frame's multiply-accumulates the nodes do, 0..1."""
        return sum(self.work[node] for node in nodes) / sum(self.work.values())


@dataclass(frozen=True, eq=False)
class Ranges:
    """What the calibration images said.

    Attributes:
        histograms: of each tensor.
        means: of each tensor's channels, float32 (C,).
    """

    histograms: Mapping[str, Histogram]
    means: Mapping[str, Float]


def prepare(fp32: bytes, parts: Parts) -> Network:
    """Take a bundle's fp32 network apart.

    Args:
        fp32: the ONNX file.
        parts: what the groups are, see `group_of`.

    Raises:
        BundleError: it has no weights that could be INT8.
        EngineError: ONNX Runtime refuses it.
    """
    model = onnx.load_from_string(fp32)
    fold_constants(model)
    name_nodes(model)
    known = links(model)
    weighted = weighted_nodes(model)
    if not weighted:
        raise BundleError("the network has no convolution or matrix product with weights", "stay with fp32")
    groups: dict[str, list[str]] = {}
    for node in weighted:
        groups.setdefault(group_of(node, known, parts), []).append(node.name)
    inputs = {node.name: node.input[0] for node in weighted}
    return Network(model, groups, multiply_accumulates(model), inputs)


def channel_means(network: Network, images: Image) -> dict[str, Float]:
    """Mean of every channel of the tensors, float32 (C,) each, over at most 16 of the images.

    Args:
        network: prepared.
        images: uint8 (N, H, W, 3).
    """
    chosen = images[evenly(len(images), MAX_MEAN_IMAGES)]
    sums: dict[str, npt.NDArray[np.float64]] = {}
    probe = Probe(network.model, network.tensors)
    for image in chosen:
        for name, value in probe.run(image).items():
            # Of an image (1, C, H, W) channels come first, of tokens (1, T, C) last.
            axes = (0, 2, 3) if value.ndim == 4 else tuple(range(value.ndim - 1))
            sums[name] = sums.get(name, 0.0) + value.mean(axis=axes, dtype=np.float64) / len(chosen)
    return {name: total.astype(np.float32) for name, total in sums.items()}


def limits(network: Network, ranges: Ranges, methods: Mapping[str, Method]) -> dict[str, float]:
    """Each tensor's range, by the method of the first group that reads it."""
    found: dict[str, float] = {}
    for group, nodes in network.groups.items():
        for tensor in (network.inputs[node] for node in nodes):
            if tensor not in found and group in methods:
                found[tensor] = clipping_limit(ranges.histograms[tensor], methods[group])
    return found


def quantise(network: Network, nodes: Collection[str], limit: Mapping[str, float], ranges: Ranges) -> bytes:
    """The network as an ONNX file: some of its nodes in INT8, the rest in half precision where that is safe."""
    mixed = to_half(insert_qdq(network.model, nodes, limit, ranges.means))
    return bytes(mixed.SerializeToString(deterministic=True))
