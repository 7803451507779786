"""A simulated GigE Vision camera on 127.0.0.1, in a process of its own: what `python gige_vision.py` runs.

`aravis` is the simulator that comes with Aravis: its lost packets stay lost, and its clock cannot be latched.
`resending` sends again, has a clock, a user id, and images that show whether they are whole; its registers are Aravis'
own model of a camera. Both lose packets at random, as many as the last line of standard input says.

Sources: AIA GigE Vision 1.2, chapters on GVCP, GVSP and the bootstrap registers.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge.frame import Image

ADDRESS, PORT = "127.0.0.1", 3956
CAPABILITY, CAN_RESEND = 0x0934, 1 << 2
CLOCK_CONTROL, CLOCK, LATCH = 0x0944, 0x0948, 2
USER_ID = 0x00E8
PRIVILEGE, ACCESS_DENIED, HEARTBEAT_LIMIT_S = 0x0A00, 0x8006, 3.0
STREAM_PORT, PACKET_SIZE, STREAM_ADDRESS, SOURCE_PORT = 0x0D00, 0x0D04, 0x0D18, 0x0D1C
CLOCK_OFFSET_NS = 7_000_000_000_000
HEADERS_BYTES = 36  # IP, UDP and GVSP, all of which the packet size counts
FRAMES_KEPT = 4
LEADER, TRAILER, PAYLOAD = 1, 2, 3
IMAGE, MONO8 = 1, 0x01080001


def pattern(frame_id: int, size_bytes: int) -> Image:
    """The samples of a frame of `resending`, uint8 (N,): no two packets of any frames look alike."""
    return (np.arange(size_bytes, dtype=np.uint64) * 2654435761 // 65536 + frame_id * 7).astype(np.uint8)


class ResendingCamera:
    """Mono8, software trigger or free run at 25 Hz."""

    def __init__(self, serial: str) -> None:
        import gi

        gi.require_version("Aravis", "0.8")
        from gi.repository import Aravis

        self._model = Aravis.FakeCamera.new(serial)
        self._random = random.Random(1)
        self._loss = 0.0
        self._control = [_bound(address, PORT) for address in (ADDRESS, "127.255.255.255", "255.255.255.255")]
        self._data = _bound(ADDRESS, 0)
        self._frames: dict[int, list[bytes]] = {}
        self._frame_id = 0
        self._next_s = 0.0
        self._controller: Any = None
        self._heard_at_s = 0.0
        self._model.write_register(CAPABILITY, CAN_RESEND)
        self._model.write_register(SOURCE_PORT, self._data.getsockname()[1])
        self._model.write_register(PACKET_SIZE, 1400)
        self._write(USER_ID, f"user {serial}".encode())
        self._write(0x24, socket.inet_aton(ADDRESS))

    def run(self) -> None:
        """Until the process is killed."""
        while True:
            for ready in select.select([*self._control, sys.stdin], [], [], 0.001)[0]:
                if ready is sys.stdin:
                    self._loss = float(sys.stdin.readline())
                    continue
                command, sender = ready.recvfrom(2048)
                self._answer(ready, command, sender)
            if self._model.get_acquisition_status() and self._is_time():
                self._expose()

    def _is_time(self) -> bool:
        if self._model.is_in_software_trigger_mode():
            return bool(self._model.check_and_acknowledge_software_trigger())
        if time.monotonic() < self._next_s:
            return False
        self._next_s = time.monotonic() + 0.04
        return True

    def _answer(self, to: socket.socket, command: bytes, sender: Any) -> None:
        _, _, kind, _, request_id = struct.unpack(">BBHHH", command[:8])
        rest = command[8:]
        if kind == 0x40:
            self._send_again(*struct.unpack(">HHII", rest[:12])[1:])
            return
        if sender == self._controller:
            self._heard_at_s = time.monotonic()
        elif time.monotonic() > self._heard_at_s + HEARTBEAT_LIMIT_S:
            self._controller = None
        status = 0
        if kind == 0x02:
            answer = self._read(0, 0xF8)
        elif kind == 0x80:
            answer = b"".join(self._read(address, 4) for (address,) in struct.iter_unpack(">I", rest))
        elif kind == 0x84:
            address, _, size_bytes = struct.unpack(">IHH", rest[:8])
            answer = rest[:4] + self._read(address, size_bytes)
        elif self._controller not in (None, sender):
            status, answer = ACCESS_DENIED, b""
        else:
            address, value = struct.unpack(">I", rest[:4])[0], rest[4:]
            self._write(address, value)
            if (address, value) == (CLOCK_CONTROL, LATCH.to_bytes(4, "big")):
                self._write(CLOCK, (time.monotonic_ns() + CLOCK_OFFSET_NS).to_bytes(8, "big"))
            if address == PRIVILEGE:
                self._controller = sender if any(value) else None
                self._heard_at_s = time.monotonic()
            answer = struct.pack(">HH", 0, 1)
        (self._control[0] if kind == 0x02 else to).sendto(
            struct.pack(">HHHH", status, kind + 1, len(answer), request_id) + answer, sender
        )

    def _expose(self) -> None:
        self._frame_id = self._frame_id % 65535 + 1
        width_px, height_px = (self._model.read_register(address)[1] for address in (0x100, 0x104))
        image = pattern(self._frame_id, width_px * height_px).tobytes()
        step = self._model.read_register(PACKET_SIZE)[1] - HEADERS_BYTES
        now_ns = time.monotonic_ns() + CLOCK_OFFSET_NS
        leader = struct.pack(">HHQIIIIIHH", 0, IMAGE, now_ns, MONO8, width_px, height_px, 0, 0, 0, 0)
        contents = [(LEADER, leader)]
        contents += [(PAYLOAD, image[start : start + step]) for start in range(0, len(image), step)]
        contents += [(TRAILER, struct.pack(">HHI", 0, IMAGE, height_px))]
        packets = [
            struct.pack(">HHI", 0, self._frame_id, kind << 24 | number) + content
            for number, (kind, content) in enumerate(contents)
        ]
        self._frames[self._frame_id] = packets
        self._frames.pop(self._frame_id - FRAMES_KEPT, None)
        self._send(packets)

    def _send_again(self, frame_id: int, first: int, last: int) -> None:
        self._send(self._frames.get(frame_id, [])[first : last + 1])

    def _send(self, packets: list[bytes]) -> None:
        host = socket.inet_ntoa(self._read(STREAM_ADDRESS, 4))
        port = self._model.read_register(STREAM_PORT)[1] & 0xFFFF
        for packet in packets:
            if self._random.random() >= self._loss:
                self._data.sendto(packet, (host, port))

    def _read(self, address: int, size_bytes: int) -> bytes:
        memory = (ctypes.c_uint8 * size_bytes)()
        self._model.read_memory(address, size_bytes, ctypes.addressof(memory))
        return bytes(memory)

    def _write(self, address: int, data: bytes) -> None:
        memory = (ctypes.c_uint8 * len(data))(*data)
        self._model.write_memory(address, len(data), ctypes.addressof(memory))


def _bound(address: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    bound.bind((address, port))
    return bound


class GigeVisionCamera:
    """The process of a simulated camera, from the test's side."""

    def __init__(self, kind: str, serial: str) -> None:
        self._command = [sys.executable, __file__, kind, serial]
        self.serial = serial
        self.start()

    def start(self) -> None:
        """Without loss; returns when it answers."""
        self._process = subprocess.Popen(self._command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def lose(self, ratio: float) -> None:
        """Of the packets from now on."""
        assert self._process.stdin is not None
        print(ratio, file=self._process.stdin, flush=True)

    def kill(self) -> None:
        """As if its cable were pulled; may be called more than once."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def gige_vision_camera(kind: str, serial: str = "GV-1") -> Iterator[GigeVisionCamera]:
    """A simulated camera, the only one on this machine: the port is given by the standard."""
    with (Path(tempfile.gettempdir()) / "gige-vision-port.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        camera = GigeVisionCamera(kind, serial)
        try:
            yield camera
        finally:
            camera.kill()


def main() -> None:
    """Run a camera until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("aravis", "resending"))
    parser.add_argument("serial")
    arguments = parser.parse_args()
    if arguments.kind == "resending":
        camera = ResendingCamera(arguments.serial)
        print("ready", flush=True)
        camera.run()
    import gi

    gi.require_version("Aravis", "0.8")
    from gi.repository import Aravis

    simulator = Aravis.GvFakeCamera.new("lo", arguments.serial)
    assert simulator.is_running()
    print("ready", flush=True)
    while True:
        simulator.set_property("gvsp-lost-ratio", float(sys.stdin.readline()))


if __name__ == "__main__":
    main()
