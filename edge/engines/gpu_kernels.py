"""The two kernels, loaded into a GPU's context and ready to be launched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycuda.driver as cuda

from edge.engines import kernels
from edge.pixel_format import PixelFormat


class Kernels:
    """Loaded code; its methods put launches on streams, with the context current.

    Args:
        code: cubin or PTX of `edge/kernels.cu`.
    """

    def __init__(self, code: bytes) -> None:
        module = cuda.module_from_buffer(code)
        self._preprocess = module.get_function("preprocess")
        self._summarise = module.get_function("summarise")

    def preprocess(
        self,
        stream: Any,
        *,
        raw: int,
        row_stride_bytes: int,
        size_wh: tuple[int, int],
        pixel_format: PixelFormat,
        roi_xywh: tuple[int, int, int, int] | None,
        out: int,
        out_hw: tuple[int, int],
    ) -> None:
        """Make the network's input of raw rows; arguments as for `edge.engines.kernels.preprocess_args`."""
        arguments = kernels.preprocess_args(
            raw=raw,
            row_stride_bytes=row_stride_bytes,
            size_wh=size_wh,
            pixel_format=pixel_format,
            roi_xywh=roi_xywh,
            out=out,
            out_hw=out_hw,
        )
        grid = kernels.preprocess_grid(size_wh[0] if roi_xywh is None else roi_xywh[2], out_hw)
        self._preprocess(_structure(arguments), block=kernels.PREPROCESS_BLOCK, grid=grid, stream=stream)

    def summary(self, arguments: bytes, size_hw: tuple[int, int]) -> Callable[[Any], None]:
        """What launches `summarise` on a stream, always with these arguments; sums must be zero when it begins.

        Args:
            arguments: from `edge.engines.kernels.summary_args`.
            size_hw: of map and image, in pixels.
        """
        structure, grid = _structure(arguments), kernels.summary_grid(size_hw)
        return lambda stream: self._summarise(structure, block=kernels.SUMMARY_BLOCK, grid=grid, stream=stream)


def load_kernels(compute_capability: tuple[int, int], cache: Path) -> Kernels:
    """Compile them for a GPU, or find them compiled, and load them into the current context.

    Raises:
        AcceleratorError: nvcc is missing, or does not know the GPU.
        ConfigError: the cache cannot be written.
        EngineError: nvcc failed.
    """
    return Kernels(kernels.compile_kernels(compute_capability, cache))


def _structure(arguments: bytes) -> Any:
    """PyCUDA passes such a value to a kernel as it is."""
    return np.frombuffer(arguments, np.dtype(f"V{len(arguments)}"))[0]
