"""The network of `brightness.cu` for the CUDA engine, where there is no TensorRT."""

from __future__ import annotations

import ctypes
from typing import Any

SIDE_PX = 256
_THREADS = 128


class _Arguments(ctypes.Structure):
    _fields_ = (("image", ctypes.c_uint64), ("anomaly_map", ctypes.c_uint64), ("score", ctypes.c_uint64))


class BrightnessNetwork:
    """Implements `edge.engines.network.Network`; made with a context current.

    Args:
        code: `brightness.cu`, compiled.
    """

    precision = "fp32"
    artefact_sha256 = "0" * 64

    def __init__(self, code: bytes) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        self._module, self.function = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.driver.cuModuleLoadData(ctypes.byref(self._module), code))
        self.check(self.driver.cuModuleGetFunction(ctypes.byref(self.function), self._module, b"brightness"))

    def bind(self, image: int, anomaly_map: int, score: int) -> Any:
        return _Execution(self, _Arguments(image, anomaly_map, score))

    @staticmethod
    def check(status: int) -> None:
        assert status == 0, f"the driver returns {status}"


class _Execution:
    def __init__(self, network: BrightnessNetwork, arguments: _Arguments) -> None:
        self._network = network
        self._arguments = arguments
        self._pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))

    def enqueue(self, stream: int) -> None:
        driver, handle = self._network.driver, ctypes.c_void_p(stream)
        score = ctypes.c_uint64(self._arguments.score)
        self._network.check(driver.cuMemsetD8Async(score, 0, ctypes.c_size_t(4), handle))
        blocks = SIDE_PX * SIDE_PX // _THREADS
        launch = driver.cuLaunchKernel
        self._network.check(
            launch(self._network.function, blocks, 1, 1, _THREADS, 1, 1, 0, handle, self._pointers, None)
        )
