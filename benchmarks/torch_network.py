"""A network for the CUDA engine where TensorRT is missing: PyTorch's folded detector in half precision.

For benchmarks only: the weights are random, with a fixed seed; no duration depends on their values.

Outside a capture a slot's execution replays a CUDA graph that PyTorch captured. The engine captures a slot's whole
work itself, this network's in its middle. There the detector is computed kernel by kernel into the engine's graph
("inline"), in memory that is given to nobody else; or PyTorch's graph is launched into it ("child"), which a driver
makes a child graph or refuses. Where a capture is refused, the engine queues its work call by call, and the replay is
one of the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from gpu_variants import InType
from measure import BACKBONES, random_backbone
from torch import Tensor

from edge.manifest import Precision
from training.networks.tfanet import PresetName

Captured = Literal["inline", "child"]
SIDE_PX = 256
_WARM_UP = 3


class TorchNetwork:
    """Implements edge.engines.network.Network; to be made with the GPU's primary context current.

    Args:
        preset: of the transformer, with its backbone.
        captured: what it does inside somebody else's capture.
    """

    def __init__(self, preset: PresetName, captured: Captured) -> None:
        self.module = InType(preset, random_backbone(BACKBONES[preset]), torch.float16).to("cuda").eval()
        self.captured = captured

    @property
    def precision(self) -> Precision:
        return "fp16"

    @property
    def artefact_sha256(self) -> str:
        """There is no file."""
        return "0" * 64

    def bind(self, image: int, anomaly_map: int, score: int) -> TorchExecution:
        """Prepare for tensors at these addresses on the GPU."""
        tensors = (
            at_address(image, (1, SIDE_PX, SIDE_PX, 3), "|u1"),
            at_address(anomaly_map, (1, SIDE_PX, SIDE_PX), "<f4"),
            at_address(score, (1,), "<f4"),
        )
        return TorchExecution(self.module, *tensors, self.captured)


class TorchExecution:
    """The detector with its tensors at fixed addresses; has memory of its own, so that several can be in flight."""

    def __init__(self, module: InType, image: Tensor, anomaly_map: Tensor, score: Tensor, captured: Captured) -> None:
        self._module = module
        self._image, self._map, self._score = image, anomaly_map, score
        self._captured = captured
        self._pool = torch.cuda.MemPool()
        self._graph = torch.cuda.CUDAGraph()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UP):
                self._compute()
        beside.synchronize()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._compute()
        torch.cuda.synchronize()

    def enqueue(self, stream: int) -> None:
        """Queue one frame's computation on a CUDA stream, given by its handle."""
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
            if self._captured == "inline" and torch.cuda.is_current_stream_capturing():
                # What a graph's kernels write to must belong to it as long as it is launched.
                with torch.cuda.use_mem_pool(self._pool):
                    self._compute()
            else:
                self._graph.replay()

    @torch.inference_mode()
    def _compute(self) -> None:
        anomaly_map, score = self._module(self._image)
        self._map.copy_(anomaly_map)
        self._score.copy_(score)


@dataclass(frozen=True)
class _Address:
    __cuda_array_interface__: dict[str, Any]


def at_address(address: int, shape: tuple[int, ...], typestr: str) -> Tensor:
    """Memory on the GPU that belongs to somebody else, as a tensor.

    Source: CUDA Array Interface, version 3.
    """
    interface = {"shape": shape, "typestr": typestr, "data": (address, False), "strides": None, "version": 3}
    return torch.as_tensor(_Address(interface), device="cuda")
