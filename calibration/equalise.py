"""Channels of a convolutional network brought to like ranges before they share one INT8 scale.

A channel may be divided by any positive number where it is made and multiplied by it where it is read: ReLU, pooling,
resizing and sums of channels divided alike let it through (Nagel et al., "Data-free quantization through weight
equalization and bias correction", ICCV 2019, section 4.1). The network computes the same, and a channel of small values
no longer drowns in the rounding of a large one. How much goes from activations into weights follows Xiao et al.,
"SmoothQuant", ICML 2023.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edge.frame import Image
from export.onnx_graph import Links, links
from export.probe import Probe

Float = npt.NDArray[np.float32]
MIGRATION = 0.75
MAX_IMAGES = 16
_LETS_THROUGH = frozenset({"Add", "MaxPool", "Relu", "Resize"})
_MIN_RANGE_SHARE = 1e-4


@dataclass
class _Tied:
    """Tensors whose channels are divided alike.

    Attributes:
        tensors: their names.
        writers, readers: convolutions.
        taps: constants that the channels are multiplied with behind a concatenation, and where in them they begin.
    """

    tensors: list[str] = field(default_factory=list)
    writers: list[onnx.NodeProto] = field(default_factory=list)
    readers: list[onnx.NodeProto] = field(default_factory=list)
    taps: list[tuple[str, int]] = field(default_factory=list)
    is_free: bool = True


def equalise(model: onnx.ModelProto, images: Image) -> onnx.ModelProto:
    """A copy that computes the same, its channels divided by how far they reach.

    Args:
        model: float32, its constants folded and its nodes named.
        images: uint8 (N, H, W, 3), good parts; at most 16 are used.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    known = links(result)
    sets = [tied for tied in _tied_sets(result, known) if tied.is_free and tied.readers and tied.writers]
    reach = _reach(model, [tied.readers for tied in sets], images)
    for tied in sets:
        largest = np.max([reach[node.input[0]] for node in tied.readers], axis=0)
        _divide(tied, _divisors(largest, [known.weight(node) for node in tied.readers]), known)
    return result


def _tied_sets(model: onnx.ModelProto, known: Links) -> list[_Tied]:
    """What belongs together, in graph order."""
    of_tensor: dict[str, _Tied] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            of_tensor[node.output[0]] = _Tied([node.output[0]], [node], is_free=_is_plain(node, known))
        elif node.op_type in _LETS_THROUGH and all(name in of_tensor for name in _data_inputs(node)):
            first, *others = (of_tensor[name] for name in _data_inputs(node))
            for other in others:
                _merge(first, other, of_tensor)
            first.tensors.append(node.output[0])
            of_tensor[node.output[0]] = first
    sets = list({id(tied): tied for tied in of_tensor.values()}.values())
    for name, tied in of_tensor.items():
        for reader in known.read_by.get(name, []):
            _note_reader(tied, name, reader, of_tensor, known)
        if any(value.name == name for value in model.graph.output):
            tied.is_free = False
    return sets


def _data_inputs(node: onnx.NodeProto) -> Sequence[str]:
    return list(node.input if node.op_type == "Add" else node.input[:1])


def _merge(first: _Tied, other: _Tied, of_tensor: dict[str, _Tied]) -> None:
    if first is other:
        return
    first.tensors += other.tensors
    first.writers += other.writers
    first.is_free &= other.is_free
    of_tensor.update(dict.fromkeys(other.tensors, first))


def _note_reader(tied: _Tied, name: str, reader: onnx.NodeProto, of_tensor: Mapping[str, _Tied], known: Links) -> None:
    """Either the division can be undone there, or it stops there: then nothing of the set may be divided."""
    if reader.op_type == "Shape" or (reader.op_type in _LETS_THROUGH and of_tensor.get(reader.output[0]) is tied):
        return
    if reader.op_type == "Conv" and _is_plain(reader, known):
        tied.readers.append(reader)
        return
    behind = known.read_by.get(reader.output[0], [])
    if reader.op_type == "Concat" and len(behind) == 1 and behind[0].op_type == "Mul":
        names = [other for other in behind[0].input if other in known.constants]
        sizes = [_channels(other, of_tensor, known) for other in reader.input]
        if len(names) == 1 and None not in sizes and len(known.read_by[names[0]]) == 1:
            tied.taps += [
                (names[0], sum(size or 0 for size in sizes[:index]))
                for index, other in enumerate(reader.input)
                if other == name
            ]
            return
    tied.is_free = False


def _channels(name: str, of_tensor: Mapping[str, _Tied], known: Links) -> int | None:
    return len(known.weight(of_tensor[name].writers[0])) if name in of_tensor else None


def _is_plain(node: onnx.NodeProto, known: Links) -> bool:
    """Whether it is a convolution over all channels whose constants nobody else reads."""
    names = node.input[1:]
    ungrouped = all(attribute.i == 1 for attribute in node.attribute if attribute.name == "group")
    return ungrouped and all(name in known.constants and len(known.read_by[name]) == 1 for name in names)


def _reach(model: onnx.ModelProto, readers: Sequence[Sequence[onnx.NodeProto]], images: Image) -> dict[str, Float]:
    """Largest magnitude of each channel of what the convolutions read, float32 (C,) each."""
    names = sorted({node.input[0] for nodes in readers for node in nodes})
    probe, count = Probe(model, names), min(len(images), MAX_IMAGES)
    found = {name: np.zeros(1, np.float32) for name in names}
    for index in range(count):
        for name, values in probe.run(images[index * len(images) // count]).items():
            found[name] = np.maximum(found[name], np.abs(values).max(axis=(0, 2, 3)))
    return found


def _divisors(largest: Float, weights: Sequence[Float]) -> Float:
    """Of each channel, (C,); their geometric mean is 1."""
    largest = np.maximum(largest, max(_MIN_RANGE_SHARE * float(largest.max()), np.finfo(np.float32).tiny))
    of_weight = np.max([np.abs(weight).max(axis=(0, 2, 3)) for weight in weights], axis=0)
    of_weight = np.maximum(of_weight, max(_MIN_RANGE_SHARE * float(of_weight.max()), np.finfo(np.float32).tiny))
    divisors = np.log(largest) * MIGRATION - np.log(of_weight) * (1 - MIGRATION)
    return np.asarray(np.exp(divisors - divisors.mean()), np.float32)


def _divide(tied: _Tied, divisors: Float, known: Links) -> None:
    for node in tied.writers:
        _multiply(known, node.input[1], (1 / divisors)[:, None, None, None])
        for name in node.input[2:]:
            _multiply(known, name, 1 / divisors)
    for node in tied.readers:
        _multiply(known, node.input[1], divisors[None, :, None, None])
    for name, start in tied.taps:
        constant = known.constants[name]
        values = np.asarray(numpy_helper.to_array(constant)).copy()
        channels = values.reshape(-1)
        channels[start : start + len(divisors)] *= divisors
        constant.CopyFrom(numpy_helper.from_array(values, name))


def _multiply(known: Links, name: str, factors: npt.NDArray[np.floating]) -> None:
    constant = known.constants[name]
    product = np.asarray(numpy_helper.to_array(constant)) * factors
    constant.CopyFrom(numpy_helper.from_array(product.astype(np.float32), name))
