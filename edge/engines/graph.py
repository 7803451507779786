"""Work on a CUDA stream, captured once and launched as one CUDA graph; plainly queued where that cannot be.

PyCUDA has no graphs, so `cuda-bindings` captures on the handle of PyCUDA's stream. It is optional.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class CapturedWork:
    """What a slot does on the compute stream, always with the same addresses.

    Args:
        queue: puts the work on the stream; called before, so that whatever allocates at its first call has done so.
        stream: a `pycuda.driver.Stream`, idle.
    """

    def __init__(self, queue: Callable[[], None], stream: Any) -> None:
        self._queue = queue
        self._stream = stream
        queue()
        stream.synchronize()
        try:
            self._graph: _Graph | None = _Graph(queue, stream)
        except (ImportError, _CaptureError) as error:
            _log.info("no CUDA graph (%s): the work is queued call by call", error)
            self._graph = None

    @property
    def is_graph(self) -> bool:
        """Whether it is launched as one graph."""
        return self._graph is not None

    def launch(self) -> None:
        """Put the work on the stream."""
        if self._graph is None:
            self._queue()
        else:
            self._graph.launch(self._stream)

    def release(self) -> None:
        """Destroy the graph; nothing can be launched any more."""
        if self._graph is not None:
            self._graph.destroy()


class _CaptureError(Exception):
    pass


class _Graph:
    def __init__(self, queue: Callable[[], None], stream: Any) -> None:
        from cuda.bindings import driver

        self._driver = driver
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._checked(driver.cuStreamBeginCapture(stream.handle, mode))
        try:
            queue()
        except Exception as error:
            driver.cuStreamEndCapture(stream.handle)
            raise _CaptureError(f"it cannot be captured: {error}") from error
        graph = self._checked(driver.cuStreamEndCapture(stream.handle))
        self._executable = self._checked(driver.cuGraphInstantiate(graph, 0))
        self._checked(driver.cuGraphDestroy(graph))

    def launch(self, stream: Any) -> None:
        self._checked(self._driver.cuGraphLaunch(self._executable, stream.handle))

    def destroy(self) -> None:
        self._checked(self._driver.cuGraphExecDestroy(self._executable))

    def _checked(self, returned: tuple[Any, ...]) -> Any:
        status, *values = returned
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise _CaptureError(f"the driver returns {status.name}")
        return values[0] if values else None
