"""A TensorRT plan on the GPU, as a Network: named tensors, one execution context per slot."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import tensorrt as trt

from edge.engines import trt_compat
from edge.engines.plan_cache import PlanRecord
from edge.errors import EngineError
from edge.manifest import Precision

_log = logging.getLogger(__name__)


class TensorRtNetwork:
    """A plan, deserialised; it stays on the GPU until nothing refers to it."""

    def __init__(
        self, plan: bytes, precision: Precision, size_hw: tuple[int, int], record: PlanRecord | None = None
    ) -> None:
        """Load it, with the context current.

        Args:
            plan: built for this device.
            precision: of the variant that it was built from.
            size_hw: of the network's input, in pixels.
            record: what is known of the plan; None where it was just built.

        Raises:
            EngineError: TensorRT does not take it.
        """
        self._engine = trt_compat.deserialize(plan, record)
        self._size_hw = size_hw
        self._precision = precision
        self._artefact_sha256 = hashlib.sha256(plan).hexdigest()
        warning = trt_compat.warn_about(trt.__version__)
        if warning is not None:
            _log.warning(warning)

    @property
    def precision(self) -> Precision:
        return self._precision

    @property
    def artefact_sha256(self) -> str:
        return self._artefact_sha256

    def bind(self, image: int, anomaly_map: int, score: int) -> _Execution:
        return _Execution(self._engine, self._size_hw, {"image": image, "anomaly_map": anomaly_map, "score": score})


class _Execution:
    def __init__(self, engine: Any, size_hw: tuple[int, int], addresses: dict[str, int]) -> None:
        self._context = engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"TensorRT makes no execution context ({_last_error()})", "free memory of the GPU")
        self._context.set_input_shape("image", trt.Dims([1, *size_hw, 3]))
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT does not take the tensor '{name}' ({_last_error()})", "export again")

    def enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"TensorRT does not run the plan ({_last_error()})")


def _last_error() -> str:
    return trt_compat.logger()[1].last_error()
