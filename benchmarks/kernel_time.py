"""What the preprocessing kernel takes on the GPU, and what a copy of the same bytes takes there."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from edge.pixel_format import PixelFormat

SIDE_PX = 256
# Frames of 5 megapixels, together more than a GPU's caches hold.
COPIES = 32
REPEATS = 15


def graph_ms(queue: Callable[[], None], stream: Any, count: int) -> float:
    """Milliseconds of one of `count` pieces of work that `queue` puts on the stream: median over launches as a graph.

    A graph, because a kernel of microseconds takes less than Python takes to launch it.
    """
    from edge.cuda import event
    from edge.engines.graph import CapturedWork

    work = CapturedWork(queue, stream)
    began, ended = event(timed=True), event(timed=True)
    times_ms: list[float] = []
    for _ in range(REPEATS):
        began.record(stream)
        work.launch()
        ended.record(stream)
        ended.synchronize()
        times_ms.append(ended.time_since(began) / count)
    work.release()
    return statistics.median(times_ms)


def preprocess_and_copy_ms(kernels: Any, size_wh: tuple[int, int]) -> tuple[float, float]:
    """The kernel on a BayerRG8 frame, and a copy of that frame; the context must be current."""
    import pycuda.driver as cuda

    width_px, height_px = size_wh
    frame_bytes = width_px * height_px
    sources, targets = ([cuda.mem_alloc(frame_bytes) for _ in range(COPIES)] for _ in range(2))
    out = cuda.mem_alloc(SIDE_PX * SIDE_PX * 3)
    stream = cuda.Stream()
    for source in sources:
        cuda.memset_d8(source, 100, frame_bytes)

    def preprocess() -> None:
        for source in sources:
            kernels.preprocess(
                stream,
                raw=int(source),
                row_stride_bytes=width_px,
                size_wh=size_wh,
                pixel_format=PixelFormat.BAYER_RG8,
                roi_xywh=None,
                out=int(out),
                out_hw=(SIDE_PX, SIDE_PX),
            )

    def copy() -> None:
        for source, target in zip(sources, targets, strict=True):
            cuda.memcpy_dtod_async(target, source, frame_bytes, stream)

    return graph_ms(preprocess, stream, COPIES), graph_ms(copy, stream, COPIES)
