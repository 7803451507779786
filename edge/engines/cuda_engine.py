"""A network on the GPU behind the Engine protocol: the double buffer, driven without ever waiting for a copy."""

from __future__ import annotations

import ctypes
import time
from contextlib import ExitStack

from edge.cuda import Gpu, LockedMemory, Transfer
from edge.engines.engine import EngineTiming
from edge.engines.gpu_kernels import Kernels
from edge.engines.gpu_slot import GpuSlot, Streams
from edge.engines.kernels import check_frame
from edge.engines.network import Network
from edge.errors import EngineLostError
from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import Owner, Slot

# Between two looks at a slot that is not done.
_LOOK_EVERY_S = 20e-6


class CudaEngine:
    """Slots in flight on one GPU; used by one thread."""

    def __init__(
        self,
        gpu: Gpu,
        network: Network,
        kernels: Kernels,
        pixel_threshold: float,
        transfer: Transfer,
        keep_warm_s: float | None,
    ) -> None:
        """Join the parts.

        Args:
            gpu: to run on.
            network: loaded.
            kernels: loaded.
            pixel_threshold: from which a map pixel is above.
            transfer: how bytes travel.
            keep_warm_s: after so long without a frame, one is computed; None lets the GPU clock down.
        """
        self._gpu = gpu
        self._network = network
        self._kernels = kernels
        self._pixel_threshold = pixel_threshold
        self._transfer = transfer
        self._keep_warm_s = keep_warm_s
        self._last_work_s = time.monotonic()
        self._slots: dict[int, GpuSlot] = {}
        self._locked: LockedMemory | None = None
        with gpu.current():
            self._streams = Streams.create()

    @property
    def precision(self) -> str:
        return self._network.precision

    @property
    def artefact_sha256(self) -> str:
        return self._network.artefact_sha256

    @property
    def transfer(self) -> Transfer:
        """How bytes travel."""
        return self._transfer

    @property
    def has_graphs(self) -> bool:
        """Whether every slot's work is launched as one CUDA graph."""
        return all(slot.is_graph for slot in self._slots.values())

    def bind(self, slot: Slot) -> None:
        with self._gpu.current():
            self._slots[slot.index] = GpuSlot(
                slot, self._network, self._kernels, self._streams, self._transfer, self._pixel_threshold
            )

    def adopt(self, memory: Image | None) -> None:
        with self._gpu.current():
            if self._locked is not None:
                self._streams.synchronize()
                self._locked.unlock()
            self._locked = None if memory is None else LockedMemory.lock(memory, self._transfer)

    def enqueue(self, slot: Slot, image: Image, pixel_format: PixelFormat, settings: Preprocessing) -> None:
        size_wh = pixel_format.width_px(image.shape), image.shape[0]
        check_frame(size_wh, pixel_format, settings.roi_xywh, settings.input_size_px)
        with self._gpu.current():
            self._slots[slot.index].enqueue(image, pixel_format, settings, self._locked)
        slot.hand_over(Owner.HOST, Owner.ENGINE)
        self._last_work_s = time.monotonic()

    def wait(self, slot: Slot, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with ExitStack() as on_failure:
            on_failure.callback(slot.hand_over, Owner.ENGINE, Owner.HOST)
            with self._gpu.current():
                while not self._slots[slot.index].done.query():
                    if time.monotonic() >= deadline_s:
                        on_failure.pop_all()
                        return False
                    time.sleep(_LOOK_EVERY_S)
        return True

    def fetch(self, slot: Slot) -> None:
        with self._gpu.current():
            self._slots[slot.index].fetch()

    def timing(self, slot: Slot) -> EngineTiming:
        with self._gpu.current():
            return self._slots[slot.index].timing()

    def idle(self) -> None:
        if self._keep_warm_s is not None and time.monotonic() - self._last_work_s >= self._keep_warm_s:
            with self._gpu.current():
                self._slots[0].keep_warm()
            self._last_work_s = time.monotonic()

    def close(self) -> None:
        try:
            with self._gpu.current():
                self._streams.synchronize()
                if self._locked is not None:
                    self._locked.unlock()
                while self._slots:
                    self._slots.popitem()[1].release()
                del self._network, self._kernels, self._streams
            self._gpu.close()
        except EngineLostError:
            # PyCUDA ends the process when it cannot give back what belongs to a lost context; so nothing ever is.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
