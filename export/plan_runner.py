"""Run a plan on this machine's GPU, once, by the engine that a station runs it with."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.cuda import Gpu, Transfer
from edge.engines.cuda_engine import CudaEngine
from edge.engines.device import DeviceFacts, read_device_facts
from edge.engines.golden import compute
from edge.engines.gpu_kernels import load_kernels
from edge.engines.tensorrt import TensorRtNetwork
from edge.frame import Image
from edge.manifest import Precision
from edge.slots import SlotRing

Float = npt.NDArray[np.float32]


class PlanRunner(Protocol):
    """A GPU that plans are built for and run on."""

    @property
    def facts(self) -> DeviceFacts:
        """What a plan for it depends on."""

    def run(self, plan: bytes, precision: Precision, images: Image) -> tuple[Float, Float]:
        """Anomaly maps (K,H,W) and scores (K,) of images uint8 (K,H,W,3), computed one at a time.

        Raises:
            EngineError: the plan cannot be loaded or run.
        """


class GpuPlanRunner:
    """The first GPU.

    Args:
        cache: where the kernels around a network are kept, compiled.
    """

    def __init__(self, cache: Path) -> None:
        """Find the GPU.

        Raises:
            AcceleratorError: there is none, or its driver does not answer.
        """
        self._cache = cache
        gpu = Gpu()
        self.facts = read_device_facts(gpu.device)
        gpu.close()

    def run(self, plan: bytes, precision: Precision, images: Image) -> tuple[Float, Float]:
        gpu, size_hw = Gpu(), (images.shape[1], images.shape[2])
        with gpu.current():
            kernels = load_kernels(gpu.compute_capability, self._cache)
            network = TensorRtNetwork(plan, precision, size_hw)
        engine = CudaEngine(gpu, network, kernels, np.inf, Transfer.PINNED, keep_warm_s=None)
        del network, kernels
        with closing(engine):
            ring = SlotRing(2, size_hw)
            for slot in ring.slots:
                engine.bind(slot)
            maps, scores = zip(*compute(engine, ring, images), strict=True)
        return np.stack(maps), np.stack(scores)
