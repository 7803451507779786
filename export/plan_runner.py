"""Run a plan on this machine's GPU, once, to see whether it computes what it should."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pycuda.driver as cuda
import tensorrt as trt

from edge.engines import trt_compat
from edge.engines.device import DeviceFacts, read_device_facts
from edge.errors import AcceleratorError, EngineError
from edge.frame import Image

Float = npt.NDArray[np.float32]
OUTPUTS = ("anomaly_map", "score")


class PlanRunner(Protocol):
    """A GPU that plans are built for and run on."""

    @property
    def facts(self) -> DeviceFacts:
        """What a plan for it depends on."""

    def run(self, plan: bytes, images: Image) -> tuple[Float, Float]:
        """Anomaly maps (K,H,W) and scores (K,) of images uint8 (K,H,W,3), computed one at a time.

        Raises:
            EngineError: the plan cannot be loaded or run.
        """


class GpuPlanRunner:
    """The first GPU, through its primary context; a context manager, since an error may not leave that one current."""

    def __init__(self) -> None:
        """Find the GPU.

        Raises:
            AcceleratorError: there is none, or its driver does not answer.
        """
        try:
            cuda.init()
            self._device = cuda.Device(0)
            self._context = self._device.retain_primary_context()
        except cuda.Error as error:
            raise AcceleratorError(f"no NVIDIA GPU answers ({error})", "run this on the device") from error

    def __enter__(self) -> GpuPlanRunner:
        self._context.push()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        cuda.Context.pop()

    @property
    def facts(self) -> DeviceFacts:
        return read_device_facts(self._device)

    def run(self, plan: bytes, images: Image) -> tuple[Float, Float]:
        engine = trt_compat.deserialize(plan)
        try:
            execution = _Execution(engine, images[:1])
            outputs = [execution.run(image[None]) for image in images]
        except cuda.Error as error:
            raise EngineError(f"the GPU cannot run the plan ({error})", "free its memory and try again") from error
        maps, scores = (np.concatenate([out[name] for out in outputs]) for name in OUTPUTS)
        return maps, scores


class _Execution:
    """One context of an engine with buffers for a batch of 1."""

    def __init__(self, engine: trt.ICudaEngine, image: Image) -> None:
        self._context = engine.create_execution_context()
        self._context.set_input_shape("image", trt.Dims(list(image.shape)))
        self._stream = cuda.Stream()
        self._image = cuda.mem_alloc(image.nbytes)
        self._context.set_tensor_address("image", int(self._image))
        self._outputs: dict[str, tuple[Float, Any]] = {}
        for name in OUTPUTS:
            host = np.empty(trt_compat.sizes(self._context.get_tensor_shape(name)), np.float32)
            memory = cuda.mem_alloc(host.nbytes)
            self._context.set_tensor_address(name, int(memory))
            self._outputs[name] = host, memory

    def run(self, image: Image) -> dict[str, Float]:
        cuda.memcpy_htod_async(self._image, np.ascontiguousarray(image), self._stream)
        if not self._context.execute_async_v3(self._stream.handle):
            raise EngineError(f"TensorRT cannot run the plan ({trt_compat.logger()[1].last_error()})")
        for host, memory in self._outputs.values():
            cuda.memcpy_dtoh_async(host, memory, self._stream)
        self._stream.synchronize()
        return {name: host.copy() for name, (host, _) in self._outputs.items()}
