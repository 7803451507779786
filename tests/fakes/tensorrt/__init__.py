"""A stand-in for TensorRT's runtime: a plan holds an ONNX file, and ONNX Runtime computes where the GPU would.

Everything public is in TensorRT 10.3 to 11.4 as well, but for `make_plan` and `fake`. Work waits in its CUDA stream as
a host function, and device pointers are host addresses, as in the fake driver. Refusals are logged; only a question
about a tensor that does not exist, which TensorRT answers with nonsense, is a KeyError.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort

from .plans import Plan, RefusedPlanError, make_plan, read_plan

__all__ = ["make_plan"]
__version__ = "10.3.0"

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_COMPUTE_CAPABILITY = (75, 76)  # the driver's numbers of the two attributes
_ALIGNMENT_BYTES = 256


@dataclass
class Fake:
    """What a test tells this module to do wrong, and what it reads afterwards.

    Attributes:
        fail_context: no execution context is made, as when the device memory is used up.
        fail_enqueue: `execute_async_v3` refuses.
        scale: every output is multiplied with it: 1.5 is a TensorRT that miscomputes, NaN one that computes nothing.
        errors: what went wrong within the CUDA stream, where nobody can be told.
    """

    fail_context: bool = False
    fail_enqueue: bool = False
    scale: float = 1.0
    errors: list[Exception] = field(default_factory=list)

    @cached_property
    def driver(self) -> Any:
        """The CUDA driver of this process; a test may put another one here."""
        return ctypes.CDLL("libcuda.so.1")


fake = Fake()


class _Enumeration(Enum):
    def __int__(self) -> int:
        return int(self.value)


class DataType(_Enumeration):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8 = range(6)


_NUMPY = dict(zip(DataType, map(np.dtype, ("f4", "f2", "i1", "i4", "?", "u1")), strict=True))
_ONNX = dict(zip(("float", "float16", "int8", "int32", "bool", "uint8"), DataType, strict=True))


class TensorIOMode(_Enumeration):
    NONE, INPUT, OUTPUT = range(3)


class Dims(tuple[int, ...]):
    """As a tuple, which TensorRT's own is not."""


class ILogger:
    class Severity(_Enumeration):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "ILogger::log"')


class Logger(ILogger):
    def __init__(self, min_severity: ILogger.Severity = ILogger.Severity.WARNING) -> None:
        self.min_severity = min_severity

    def log(self, severity: ILogger.Severity, msg: str) -> None:
        if severity.value <= self.min_severity.value:
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments")
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            plan = read_plan(bytes(serialized_engine), __version__, *_device())
        except RefusedPlanError as refused:
            self.logger.log(ILogger.ERROR, f"IRuntime::deserializeCudaEngine: {refused}")
            self.logger.log(ILogger.ERROR, "Error Code 4: Internal Error (Engine deserialization failed.)")
            return None
        if plan.warning is not None:
            self.logger.log(ILogger.WARNING, plan.warning)
        return ICudaEngine(plan, self.logger)


def _device() -> tuple[str, list[int]]:
    """Name and compute capability of the current device; without a current context, of the first, as CUDA's runtime."""
    device, name, numbers = ctypes.c_int(), ctypes.create_string_buffer(256), [ctypes.c_int(), ctypes.c_int()]
    fake.driver.cuCtxGetDevice(ctypes.byref(device))
    fake.driver.cuDeviceGetName(name, 256, device)
    for number, attribute in zip(numbers, _COMPUTE_CAPABILITY, strict=True):
        fake.driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
    return name.value.decode(), [number.value for number in numbers]


class ICudaEngine:
    num_optimization_profiles = 1

    def __init__(self, plan: Plan, logger: ILogger) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(plan.onnx, options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self._outputs = {node.name: node for node in self._session.get_outputs()}
        self._tensors = self._inputs | self._outputs
        self._max_batch = plan.max_batch
        self._logger = logger

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return 1 << 20

    def get_tensor_name(self, index: int) -> str:
        return [*self._tensors][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> DataType:
        return _ONNX[self._tensors[name].type.removeprefix("tensor(").rstrip(")")]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims([size if isinstance(size, int) else -1 for size in self._tensors[name].shape])

    def create_execution_context(self) -> IExecutionContext | None:
        if fake.fail_context:
            self._refuse("Error Code 2: OutOfMemory (Requested size was 1048576 bytes.)")
            return None
        return IExecutionContext(self)

    def _compute(self, where: dict[str, tuple[int, Dims]]) -> None:
        tensors = {name: _memory(*place, _NUMPY[self.get_tensor_dtype(name)]) for name, place in where.items()}
        outputs = self._session.run([*self._outputs], {name: tensors[name] for name in self._inputs})
        for name, output in zip(self._outputs, outputs, strict=True):
            np.copyto(tensors[name], output * output.dtype.type(fake.scale))

    def _refuse(self, text: str) -> bool:
        self._logger.log(ILogger.ERROR, f"IExecutionContext: {text}")
        return False


def _memory(address: int, shape: Dims, dtype: np.dtype[Any]) -> np.ndarray:
    content = (ctypes.c_uint8 * (prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(content, dtype).reshape([*shape])


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.engine = engine
        self._batch = -1 if any(-1 in engine.get_tensor_shape(name) for name in engine._inputs) else 1
        self._addresses: dict[str, int] = {}
        self._functions: dict[tuple[int, ...], Any] = {}
        self._is_settled = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return profile_index == 0 or self.engine._refuse(f"Error Code 3: API Usage Error (no profile {profile_index})")

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        wanted, given = self.engine.get_tensor_shape(name), [*shape]
        if wanted[1:] != tuple(given[1:]) or not 1 <= given[0] <= self.engine._max_batch:
            return self.engine._refuse(f"setInputShape: Error Code 3: API Usage Error ({given} is not in the profile)")
        self._is_settled = self._is_settled and self._batch == given[0]
        self._batch = given[0]
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims([self._batch if size < 0 else size for size in self.engine.get_tensor_shape(name)])

    def infer_shapes(self) -> list[str]:
        return [*self.engine._inputs] if self._batch < 0 else []

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self.engine._tensors:
            return self.engine._refuse(f"setTensorAddress: Error Code 3: API Usage Error (no tensor {name})")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle: int) -> bool:
        refuse = self.engine._refuse
        if fake.fail_enqueue:
            return refuse("enqueueV3: Error Code 1: Cuda Runtime (an illegal memory access was encountered)")
        if missing := self.infer_shapes():
            return refuse(f"enqueueV3: Error Code 3: API Usage Error (input shapes are not set: {missing})")
        for name in self.engine._tensors:
            if not (address := self.get_tensor_address(name)) or address % _ALIGNMENT_BYTES:
                return refuse(f"enqueueV3: Error Code 3: API Usage Error (address of {name} is {address})")
        stream, is_capturing = ctypes.c_void_p(stream_handle), ctypes.c_int()
        fake.driver.cuStreamIsCapturing(stream, ctypes.byref(is_capturing))
        if is_capturing.value and not self._is_settled:
            return refuse("enqueueV3: Error Code 1: Cuda Runtime (not permitted when stream is capturing)")
        if error := fake.driver.cuLaunchHostFunc(stream, self._function(), None):
            return refuse(f"enqueueV3: Error Code 1: Cuda Driver (error {error})")
        self._is_settled = True
        return True

    def _function(self) -> Any:
        """Computes from and to the addresses as they are now."""
        tensors = [(name, self._addresses[name], self.get_tensor_shape(name)) for name in self.engine._tensors]
        key = (self._batch, *(address for _, address, _ in tensors))
        if key not in self._functions:
            alive = weakref.ref(self)

            def run(_: int | None) -> None:
                try:
                    if (context := alive()) is None:
                        raise RuntimeError("the execution context is gone, but not its work")
                    context.engine._compute({name: (address, shape) for name, address, shape in tensors})
                except Exception as error:  # noqa: BLE001
                    fake.errors.append(error)

            self._functions[key] = _HOST_FUNCTION(run)
            # A graph may call it whenever it likes: it is never freed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._functions[key]))
        return self._functions[key]
