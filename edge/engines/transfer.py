"""Which way of transfer is the quickest on this GPU: measured, since it depends on how host and GPU share memory."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pycuda.driver as cuda

from edge.cuda import Gpu, Shared, Transfer
from edge.engines.gpu_kernels import Kernels
from edge.pixel_format import PixelFormat

# A frame of 5 megapixels and the summary that comes back.
_SIZE_WH = (2448, 2048)
_OUT_HW = (256, 256)
_SUMMARY_BYTES = 2048
_REPEATS = 15


def measure_transfers(gpu: Gpu, kernels: Kernels) -> dict[Transfer, float]:
    """Milliseconds, as a median, from a frame in the camera's memory to the host's answer, by each way.

    The host's copy, the transfer, a preprocessing kernel that reads all of the frame, and the way back.

    Args:
        gpu: its context must be current.
        kernels: loaded into it.
    """
    return {transfer: _measure(transfer, kernels) for transfer in gpu.transfers}


def _measure(transfer: Transfer, kernels: Kernels) -> float:
    frame = np.zeros(_SIZE_WH[0] * _SIZE_WH[1], np.uint8)
    stream = cuda.Stream()
    raw, summary = Shared(frame.nbytes, transfer), Shared(_SUMMARY_BYTES, transfer)
    out = cuda.mem_alloc(_OUT_HW[0] * _OUT_HW[1] * 3)
    times_ms = []
    for _ in range(_REPEATS):
        started_ns = time.perf_counter_ns()
        raw.host[:] = frame
        raw.to_device(stream, frame.nbytes)
        kernels.preprocess(
            stream,
            raw=raw.device,
            row_stride_bytes=_SIZE_WH[0],
            size_wh=_SIZE_WH,
            pixel_format=PixelFormat.BAYER_RG8,
            roi_xywh=None,
            out=int(out),
            out_hw=_OUT_HW,
        )
        cuda.memset_d8_async(summary.device, 0, _SUMMARY_BYTES, stream)
        summary.to_host(stream)
        stream.synchronize()
        times_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
    return statistics.median(times_ms)
