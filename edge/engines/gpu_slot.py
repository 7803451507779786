"""One slot on the GPU: its buffers, its events and its way through three streams.

::

    upload    ──[raw rows]──┐ uploaded
    compute                 └─▶[preprocess]──[network]──[summarise]──┐ computed
    download                                                         └─▶[summary]── downloaded ─▶ host

While the compute stream works on one slot, the upload stream brings the next one's rows and the download stream takes
the previous one's summary. Within a slot the events keep the order; between slots nothing is shared. Image and map stay
on the GPU until somebody asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda.driver as cuda

from edge.cuda import LockedMemory, Shared, Transfer, event
from edge.engines.engine import EngineTiming
from edge.engines.gpu_kernels import Kernels
from edge.engines.graph import CapturedWork
from edge.engines.kernels import summary_args
from edge.engines.network import Network
from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import Slot

# CU_STREAM_NON_BLOCKING, for which PyCUDA has no name.
_NON_BLOCKING = 1

# Where the parts of a summary begin; TensorRT wants its outputs aligned to 256 bytes.
_SCORE, _SUMS, _MAXIMA = 0, 256, 512


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """What all slots of an engine share. `pictures` brings images and maps, out of turn."""

    upload: Any
    compute: Any
    download: Any
    pictures: Any

    @classmethod
    def create(cls) -> Streams:
        """Four streams that wait for nothing but their events."""
        return cls(*(cuda.Stream(_NON_BLOCKING) for _ in range(4)))

    def synchronize(self) -> None:
        """Wait until all of them have nothing left to do."""
        for stream in (self.upload, self.compute, self.download, self.pictures):
            stream.synchronize()


class GpuSlot:
    """Buffers, events and captured work of one slot; nothing is allocated per frame, and addresses stay for life.

    Args:
        slot: whose host buffers become page-locked.
        network: that computes it.
        kernels: loaded into the context.
        streams: of the engine.
        transfer: how its bytes travel.
        pixel_threshold: from which a map pixel is above.
    """

    def __init__(
        self,
        slot: Slot,
        network: Network,
        kernels: Kernels,
        streams: Streams,
        transfer: Transfer,
        pixel_threshold: float,
    ) -> None:
        self._slot = slot
        self._kernels = kernels
        self._streams = streams
        self._transfer = transfer
        self._raw: Shared | None = None
        self._image, self._map, self._above = (
            cuda.mem_alloc(array.nbytes) for array in (slot.image, slot.anomaly_map, slot.above)
        )
        self._size_hw = slot.above.shape
        self._summary = Shared(_MAXIMA + slot.maxima.nbytes, transfer)
        self._lock_buffers()
        execution = network.bind(int(self._image), int(self._map), self._summary.device + _SCORE)
        arguments = summary_args(
            anomaly_map=int(self._map),
            image=int(self._image),
            mask=int(self._above),
            tile_maxima=self._summary.device + _MAXIMA,
            quality=self._summary.device + _SUMS,
            pixel_threshold=pixel_threshold,
            size_hw=self._size_hw,
        )
        summarise = kernels.summary(arguments, self._size_hw)
        sums, sums_bytes = self._summary.device + _SUMS, slot.quality_sums.nbytes

        def compute() -> None:
            execution.enqueue(streams.compute.handle)
            cuda.memset_d8_async(sums, 0, sums_bytes, streams.compute)
            summarise(streams.compute)

        self._work = CapturedWork(compute, streams.compute)
        self.done = event(timed=False)
        self._arriving, self._uploaded, self._began, self._preprocessed, self._computed = (
            event(timed=True) for _ in range(5)
        )

    @property
    def is_graph(self) -> bool:
        """Whether its work is launched as one CUDA graph."""
        return self._work.is_graph

    def enqueue(
        self, image: Image, pixel_format: PixelFormat, settings: Preprocessing, locked: LockedMemory | None
    ) -> None:
        """Queue a frame's whole way.

        Args:
            image: raw samples.
            pixel_format: how to read them.
            settings: how they become the network's input.
            locked: the camera's memory, when it is page-locked.
        """
        # Should the new answer never be written, the old one must not pass for it.
        self._summary.host[:] = 0xFF
        streams = self._streams
        self._arriving.record(streams.upload)
        address, row_bytes = self._upload(image, locked)
        self._uploaded.record(streams.upload)
        streams.compute.wait_for_event(self._uploaded)
        self._began.record(streams.compute)
        self._kernels.preprocess(
            streams.compute,
            raw=address,
            row_stride_bytes=row_bytes,
            size_wh=(pixel_format.width_px(image.shape), image.shape[0]),
            pixel_format=pixel_format,
            roi_xywh=settings.roi_xywh,
            out=int(self._image),
            out_hw=self._size_hw,
        )
        self._preprocessed.record(streams.compute)
        self._work.launch()
        self._computed.record(streams.compute)
        streams.download.wait_for_event(self._computed)
        self._summary.to_host(streams.download)
        self.done.record(streams.download)

    def keep_warm(self) -> None:
        """Compute the last frame once more; only while the slot is free, for it overwrites the summary."""
        self._work.launch()

    def fetch(self) -> None:
        """Bring image, map and what is above the threshold to the host; waits for them."""
        slot, pictures = self._slot, self._streams.pictures
        for host, memory in ((slot.image, self._image), (slot.anomaly_map, self._map), (slot.above, self._above)):
            cuda.memcpy_dtoh_async(host, memory, pictures)
        pictures.synchronize()

    def timing(self) -> EngineTiming:
        """What the last frame took on the GPU; the summary counts to the network."""
        return EngineTiming(
            upload_ms=self._uploaded.time_since(self._arriving),
            preprocess_ms=self._preprocessed.time_since(self._began),
            infer_ms=self._computed.time_since(self._preprocessed),
        )

    def _upload(self, image: Image, locked: LockedMemory | None) -> tuple[int, int]:
        """Queue what makes the raw rows readable on the GPU: their address there, and from one row to the next."""
        row_bytes = image.nbytes // image.shape[0]
        in_place = locked is not None and locked.holds(image)
        if locked is not None and in_place and (address := locked.address_of(image)) is not None:
            return address, row_bytes
        if self._raw is None or self._raw.host.nbytes < image.nbytes:
            self._raw = Shared(image.nbytes, self._transfer)
        if in_place:
            cuda.memcpy_htod_async(self._raw.device, image, self._streams.upload)
        else:
            np.copyto(self._raw.host[: image.nbytes].reshape(image.shape), image)
            self._raw.to_device(self._streams.upload, image.nbytes)
        return self._raw.device, row_bytes

    def release(self) -> None:
        """Give the slot ordinary memory again, so that nobody holds the GPU's; its work must be done."""
        self._work.release()
        self._slot.allocate(self._size_hw)

    def _lock_buffers(self) -> None:
        slot, host = self._slot, self._summary.host
        slot.score = host[_SCORE : _SCORE + slot.score.nbytes].view(np.float32)
        slot.quality_sums = host[_SUMS : _SUMS + slot.quality_sums.nbytes].view(np.int64)
        slot.maxima = host[_MAXIMA:].view(np.float32).reshape(slot.maxima.shape)
        slot.image = cuda.pagelocked_empty(slot.image.shape, np.uint8)
        slot.anomaly_map = cuda.pagelocked_empty(slot.anomaly_map.shape, np.float32)
        slot.above = cuda.pagelocked_empty(slot.above.shape, np.uint8)
