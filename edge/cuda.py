"""The GPU through PyCUDA: its primary context, streams, events, and memory that both sides can reach.

Every call is made with the context current, by whoever holds `Gpu.current()`; one thread at a time. PyCUDA raises
whatever the driver returns; `Gpu.current()` turns that into this project's own errors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pycuda.driver as cuda

from edge.errors import AcceleratorError, EngineError, EngineLostError

Bytes = npt.NDArray[np.uint8]

# CU_MEMHOSTREGISTER_DEVICEMAP
_DEVICEMAP = 2


class Transfer(str, Enum):
    """How bytes get from the host to the GPU and back.

    `pinned`: copied between page-locked host memory and the GPU's own. `mapped`: the GPU reads and writes page-locked
    host memory in place. `managed`: one allocation that the driver moves; only where both sides may touch it at once.
    """

    PINNED = "pinned"
    MAPPED = "mapped"
    MANAGED = "managed"


class Gpu:
    """The first GPU, through its primary context.

    Attributes:
        name: as the driver says it.
        compute_capability: (major, minor).
    """

    def __init__(self) -> None:
        """Find it.

        Raises:
            AcceleratorError: there is none, or its driver does not answer.
        """
        try:
            cuda.init()
            self.device = cuda.Device(0)
            self.name: str = self.device.name()
            self.compute_capability: tuple[int, int] = self.device.compute_capability()
            self._context = self.device.retain_primary_context()
        except cuda.Error as error:
            raise AcceleratorError(
                f"no NVIDIA GPU answers ({error})",
                "check that nvidia-smi (on a Jetson: tegrastats) sees it and that its driver is not older than CUDA "
                f"{_version(cuda.get_version())}, which this program was built with",
            ) from error
        self._lost: EngineLostError | None = None

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current. Left with no context pushed, whatever happens: otherwise the process would abort.

        Raises:
            EngineError: the GPU has no memory left; another attempt may succeed.
            EngineLostError: anything else the driver returned: what the GPU does from then on means nothing.
        """
        if self._lost is not None:
            raise self._lost
        self._context.push()
        try:
            yield
        except cuda.MemoryError as error:
            raise EngineError(f"the GPU has no memory left ({error})", "free some, or use fewer slots") from error
        except cuda.Error as error:
            self._lost = EngineLostError(f"the GPU failed ({error})", "the station must start again")
            raise self._lost from error
        finally:
            cuda.Context.pop()

    def close(self) -> None:
        """Let go of the context; everything made in it must be gone. PyCUDA would do it too late by itself."""
        self._context.detach()

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """What this GPU can do."""
        attributes = self.device.get_attributes()
        found = [Transfer.PINNED]
        if attributes.get(cuda.device_attribute.CAN_MAP_HOST_MEMORY):
            found.append(Transfer.MAPPED)
        if attributes.get(cuda.device_attribute.CONCURRENT_MANAGED_ACCESS):
            found.append(Transfer.MANAGED)
        return tuple(found)

    @property
    def facts(self) -> dict[str, str]:
        """What a measurement was made on."""
        major, minor = self.compute_capability
        return {"gpu": self.name, "compute_capability": f"{major}.{minor}", "driver": driver_version()}

    def free_bytes(self) -> int:
        """Memory that is left."""
        return int(cuda.mem_get_info()[0])


class Shared:
    """Bytes that the host and the GPU both reach, at an address of its own on either side, for life.

    Attributes:
        host: uint8 (size_bytes,), page-aligned and page-locked, or managed.
        device: the GPU's address.
    """

    def __init__(self, size_bytes: int, transfer: Transfer) -> None:
        self.device: int
        self._copies = transfer is Transfer.PINNED
        if transfer is Transfer.MANAGED:
            self.host: Bytes = cuda.managed_empty(size_bytes, np.uint8, mem_flags=cuda.mem_attach_flags.GLOBAL)
            self.device = self.host.ctypes.data
        elif transfer is Transfer.MAPPED:
            flags = cuda.host_alloc_flags.DEVICEMAP
            self.host = cuda.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags)
            allocation: Any = self.host.base
            self.device = int(allocation.get_device_pointer())
        else:
            self.host = cuda.pagelocked_empty(size_bytes, np.uint8)
            self._memory = cuda.mem_alloc(size_bytes)
            self.device = int(self._memory)

    def to_device(self, stream: Any, size_bytes: int) -> None:
        """Queue what brings the first bytes to the GPU."""
        if self._copies:
            cuda.memcpy_htod_async(self.device, self.host[:size_bytes], stream)

    def to_host(self, stream: Any) -> None:
        """Queue what brings everything to the host."""
        if self._copies:
            cuda.memcpy_dtoh_async(self.host, self.device, stream)


@dataclass(frozen=True, slots=True, eq=False)
class LockedMemory:
    """Memory of somebody else, page-locked so that the GPU can read it: the ring that a camera's frames arrive in.

    Asked of the driver itself: PyCUDA 2026.1's `register_host_memory` crashes the process.
    """

    array: Bytes
    device_start: int | None

    @classmethod
    def lock(cls, memory: Bytes, transfer: Transfer) -> LockedMemory | None:
        """Lock it; None where the driver cannot (then frames are copied once more), or managed memory is used."""
        if transfer is Transfer.MANAGED:
            return None
        driver, start = _driver(), ctypes.c_void_p(memory.ctypes.data)
        is_mapped = transfer is Transfer.MAPPED
        if driver.cuMemHostRegister_v2(start, ctypes.c_size_t(memory.nbytes), _DEVICEMAP if is_mapped else 0):
            return None
        if not is_mapped:
            return cls(memory, None)
        device = ctypes.c_uint64()
        if driver.cuMemHostGetDevicePointer_v2(ctypes.byref(device), start, 0):
            driver.cuMemHostUnregister(start)
            return None
        return cls(memory, device.value)

    def address_of(self, image: Bytes) -> int | None:
        """Where the GPU finds an image of this memory; None when it has to be copied there."""
        return None if self.device_start is None else self.device_start + self._offset(image)

    def holds(self, image: Bytes) -> bool:
        """Whether an image's samples lie in it, one after the other."""
        first = self._offset(image)
        return image.flags.c_contiguous and first >= 0 and first + image.nbytes <= self.array.nbytes

    def unlock(self) -> None:
        """Let go of it; the GPU must be done with it."""
        _driver().cuMemHostUnregister(ctypes.c_void_p(self.array.ctypes.data))

    def _offset(self, image: Bytes) -> int:
        return image.ctypes.data - self.array.ctypes.data


def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def event(*, timed: bool) -> Any:
    """An event; one that keeps no time costs less."""
    return cuda.Event(0 if timed else cuda.event_flags.DISABLE_TIMING)


def driver_version() -> str:
    """The CUDA version that the driver brings, as `12.6`."""
    version = int(cuda.get_driver_version())
    return f"{version // 1000}.{version % 1000 // 10}"


def _version(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version[:2])
