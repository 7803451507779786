"""Inner tensors of a network, computed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx

from edge.engines.ort import open_session
from edge.frame import Image


class Probe:
    """A network up to some of its tensors. Being outputs, they outlast every fusion.

    Args:
        model: with the input `image`; not changed.
        tensors: made by its nodes.

    Raises:
        EngineError: ONNX Runtime refuses the network.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        wanted = onnx.ModelProto()
        wanted.CopyFrom(model)
        del wanted.graph.output[:]
        wanted.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
        self._tensors = tuple(tensors)
        self._session = open_session(wanted.SerializeToString())

    @property
    def image_size_px(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        _, height_px, width_px, _ = self._session.get_inputs()[0].shape
        return height_px, width_px

    def run(self, image: Image) -> dict[str, npt.NDArray[Any]]:
        """The tensors for one image, uint8 (H, W, 3), in the order they were asked for."""
        return dict(zip(self._tensors, self._session.run(None, {"image": image[None]}), strict=True))
