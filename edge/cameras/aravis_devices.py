"""GigE Vision cameras as Aravis sees them: which there are, and their registers.

Sources: AIA GigE Vision 1.2, GVCP and bootstrap registers; the reference manual of Aravis 0.8.

Raises:
    AravisError: on import, when Aravis or its Python binding is missing.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from typing import Any

from genicam import genapi

from edge.cameras.camera import CameraInfo
from edge.errors import AravisError

try:
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis, GLib
except (ImportError, ValueError) as error:
    raise AravisError(
        f"camera.kind is 'aravis', but it does not load ({error})",
        "install gir1.2-aravis-0.8 with apt and tfanet-edge[aravis] with pip, as docs/cameras.md says",
    ) from error

_PROTOCOL = "GigEVision"
_CONTROL_PORT = 3956
_REPLY_S = 0.2
_READ_MEMORY, _READ_MEMORY_HEADER_BYTES = 0x84, 12
_USER_ID, _USER_ID_BYTES = 0x00E8, 16
REGISTER_BYTES = 4

__all__ = ["REGISTER_BYTES", "Aravis", "GLib", "Place", "Registers", "find_cameras"]


def find_cameras() -> list[tuple[CameraInfo, Place]]:
    """Every GigE Vision camera that answered within a second, in use or not, each with what `AravisTransport` opens."""
    for index in range(Aravis.get_n_interfaces()):
        name = Aravis.get_interface_id(index)
        (Aravis.enable_interface if name == _PROTOCOL else Aravis.disable_interface)(name)
    Aravis.update_device_list()
    indices = range(Aravis.get_n_devices())
    places = [Place(Aravis.get_device_id(index), Aravis.get_device_address(index)) for index in indices]
    return [(_describe(index, place), place) for index, place in zip(indices, places, strict=True)]


@dataclass(frozen=True, slots=True)
class Place:
    """Aravis' name for a camera, and its address."""

    name: str
    address: str

    def read(self, register: int, length: int) -> bytes | None:
        """Without Aravis and at once, whoever controls the camera; None when it does not answer."""
        command = struct.pack(">BBHHHIHH", 0x42, 1, _READ_MEMORY, 8, 1, register, 0, length)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(_REPLY_S)
            try:
                link.connect((self.address, _CONTROL_PORT))
                link.send(command)
                return link.recv(_READ_MEMORY_HEADER_BYTES + length)[_READ_MEMORY_HEADER_BYTES:]
            except OSError:
                return None


def _describe(index: int, place: Place) -> CameraInfo:
    user_id = place.read(_USER_ID, _USER_ID_BYTES) or b""  # Aravis does not tell it
    return CameraInfo(
        serial=Aravis.get_device_serial_nbr(index) or "",
        user_id=user_id.split(b"\0")[0].decode("utf-8", "replace"),
        vendor=Aravis.get_device_vendor(index) or "",
        model=Aravis.get_device_model(index) or "",
    )


class Registers(genapi.AbstractPort):  # type: ignore[misc]  # the binding is not typed
    """The camera's registers, as GenICam reads and writes them."""

    def __init__(self, device: Any) -> None:
        super().__init__()
        self._device = device

    def get_access_mode(self) -> int:
        return int(genapi.EAccessMode.RW)

    def is_open(self) -> bool:
        return True

    def read(self, address: int, length: int) -> bytes:
        memory = (ctypes.c_uint8 * length)()
        self._device.read_memory(address, length, ctypes.addressof(memory))
        return bytes(memory)

    def write(self, address: int, data: bytes) -> None:
        # Some cameras take a register's value in a register command only.
        if len(data) == REGISTER_BYTES:
            self._device.write_register(address, int.from_bytes(data, "big"))
        else:
            memory = (ctypes.c_uint8 * len(data))(*data)
            self._device.write_memory(address, len(data), ctypes.addressof(memory))
