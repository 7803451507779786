"""Control of a simulated camera: the file that a camera of `replay.cti` is, seen from the test bench.

The producer lists every `*.cam` file of the directory that the environment variable `REPLAY_CAMERAS` names and
re-reads the control header while it streams, so that everything set here takes effect at once, in whatever process
the camera is open.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edge.errors import CameraSetupError, ImageError
from edge.frame import Image
from edge.pixel_format import PixelFormat
from simulator.camera_file import (
    HEADER,
    IMAGE_OFFSET,
    LOG_ENTRIES,
    MAGIC,
    NAME_BYTES,
    PFNC,
    VERSION,
    BufferHandling,
    Counters,
    Exposure,
    Fate,
    Link,
)


class ReplayCamera:
    """One simulated camera. Create its file once, then open it from any process; one bench controls it at a time."""

    def __init__(self, path: Path) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._header = np.memmap(path, dtype=HEADER, mode="r+", shape=(1,))

    @classmethod
    def create(
        cls,
        directory: Path,
        serial: str,
        images: Image,
        user_id: str = "",
        vendor: str = "tfanet-edge",
        model: str = "Replay",
    ) -> ReplayCamera:
        """Puts a camera into a directory; it is online at once, with image 0 under it.

        Args:
            directory: what `REPLAY_CAMERAS` names; made if missing.
            serial: DeviceSerialNumber and file name; replaces a camera of that serial.
            images: uint8, (K, H, W, 3) for a colour camera (RGB8, BayerRG8, Mono8) or (K, H, W) for a Mono8 one.
            user_id: DeviceUserID.
            vendor: DeviceVendorName.
            model: DeviceModelName.

        Raises:
            ImageError: the images have another shape or type, or there are none.
            CameraSetupError: a name is too long, or the serial cannot be a file name.
        """
        colour = images.ndim == 4 and images.shape[-1] == 3
        if images.dtype != np.uint8 or not (colour or images.ndim == 3) or images.size == 0:
            raise ImageError(
                f"images of shape {images.shape} and type {images.dtype}",
                "give uint8 images as (K, H, W, 3) or (K, H, W), at least one",
            )
        if not serial or "/" in serial or serial.startswith("."):
            raise CameraSetupError(f"serial number '{serial}'", "choose one that can be a file name")
        header = np.zeros(1, dtype=HEADER)
        for field, name in {"serial": serial, "user_id": user_id, "vendor": vendor, "model": model}.items():
            header[field] = _encode_name(field, name)
        header["magic"], header["version"], header["header_bytes"] = MAGIC, VERSION, HEADER.itemsize
        header["image_count"], header["height"], header["width"] = images.shape[:3]
        header["pixel_format"] = PFNC[PixelFormat.RGB8 if colour else PixelFormat.MONO8]
        header["image_bytes"], header["image_offset"] = images[0].nbytes, IMAGE_OFFSET
        header["link"] = Link.ONLINE

        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{serial}.cam"
        unfinished = directory / f".{serial}.{os.getpid()}"
        with unfinished.open("wb") as file:
            file.write(header.tobytes())
            file.seek(IMAGE_OFFSET)
            for image in images:
                file.write(image.tobytes())
        unfinished.replace(path)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> ReplayCamera:
        """Takes control of a camera that exists.

        Raises:
            CameraSetupError: the file is missing or is no camera of this version.
        """
        expected = MAGIC + VERSION.to_bytes(4, "little")
        try:
            with path.open("rb") as file:
                start = file.read(len(expected))
        except OSError as error:
            raise CameraSetupError(f"'{path}' cannot be read: {error}", "create the camera first") from error
        if start != expected:
            raise CameraSetupError(f"'{path}' is no camera of version {VERSION}", "create it again")
        return cls(path)

    def __enter__(self) -> ReplayCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; the camera itself stays as it is."""
        del self._header

    # Identity

    @property
    def serial(self) -> str:
        """DeviceSerialNumber."""
        return bytes(self._header["serial"][0]).decode()

    @property
    def user_id(self) -> str:
        """DeviceUserID, which a client may have rewritten."""
        return bytes(self._header["user_id"][0]).decode()

    @property
    def image_count(self) -> int:
        """How many images the camera goes through, over and over."""
        return self._get("image_count")

    # The scene

    def show(self, index: int) -> None:
        """Puts image `index` under the camera: the next exposure takes it, the one after that the next image.

        Raises:
            ImageError: there is no such image.
        """
        if not 0 <= index < self.image_count:
            raise ImageError(f"image {index} of {self.image_count}", "count from 0")
        self._set("cursor", index)

    @property
    def next_image(self) -> int:
        """The image that the next exposure will take."""
        return self._get("cursor") % self.image_count

    def pulse_line(self) -> None:
        """One pulse on Line0, noticed within about 0.5 ms."""
        self._set("line0_pulses", (self._get("line0_pulses") + 1) % 2**32)

    # Faults

    @property
    def online(self) -> bool:
        """False is the pulled cable: ports fail, waiting events abort, the device leaves the list.

        Back online the camera can be found and opened again; connections from before stay lost.
        """
        return self._get("link") == Link.ONLINE

    @online.setter
    def online(self, online: bool) -> None:
        if online:
            self._set("link", Link.ONLINE)
        elif self.online:
            self._lose(Link.OFFLINE)

    def vanish(self, *, is_told: bool = False) -> None:
        """Goes offline the way many producers show it: ports fail, but waiting for a buffer only times out.

        With `is_told` the host's module for the device sends GenTL's event DeviceLost, as it does for a pulled cable.
        """
        self._lose(Link.LOST if is_told else Link.SILENT)

    @property
    def stall(self) -> bool:
        """Whether triggers have no effect although the device answers."""
        return self._get("stall") != 0

    @stall.setter
    def stall(self, stall: bool) -> None:
        self._set("stall", int(stall))

    @property
    def drop_every(self) -> int:
        """Every n-th frame is lost on the way and leaves a gap in the frame ids; 0 for none."""
        return self._get("drop_every")

    @drop_every.setter
    def drop_every(self, n: int) -> None:
        self._set("drop_every", n)

    @property
    def incomplete_every(self) -> int:
        """Of every n-th frame only the upper half arrives; 0 for none."""
        return self._get("incomplete_every")

    @incomplete_every.setter
    def incomplete_every(self, n: int) -> None:
        self._set("incomplete_every", n)

    @property
    def duplicate_every(self) -> int:
        """Instead of every n-th frame the one before it comes again, with its id and timestamp; 0 for none."""
        return self._get("duplicate_every")

    @duplicate_every.setter
    def duplicate_every(self, n: int) -> None:
        self._set("duplicate_every", n)

    @property
    def stale_every(self) -> int:
        """Every n-th frame shows the image before it, from 1 µs after its exposure, under an id of its own; 0: none."""
        return self._get("stale_every")

    @stale_every.setter
    def stale_every(self, n: int) -> None:
        self._set("stale_every", n)

    @property
    def torn_every(self) -> int:
        """Of every n-th frame the second quarter of the rows is not written, and nothing tells so; 0 for none."""
        return self._get("torn_every")

    @torn_every.setter
    def torn_every(self, n: int) -> None:
        self._set("torn_every", n)

    @property
    def short_every(self) -> int:
        """Every n-th frame's payload is a row short, though it is not marked as incomplete; 0 for none."""
        return self._get("short_every")

    @short_every.setter
    def short_every(self, n: int) -> None:
        self._set("short_every", n)

    @property
    def feature_delay_ms(self) -> int:
        """How long each access to a feature takes; the client's thread waits in the producer."""
        return self._get("feature_delay_ms")

    @feature_delay_ms.setter
    def feature_delay_ms(self, delay_ms: int) -> None:
        self._set("feature_delay_ms", delay_ms)

    @property
    def auto_exposure_us(self) -> int:
        """What ExposureAuto arrives at for the next frame; 0 leaves ExposureTime as it was."""
        return self._get("auto_exposure_us")

    @auto_exposure_us.setter
    def auto_exposure_us(self, exposure_us: int) -> None:
        self._set("auto_exposure_us", exposure_us)

    @property
    def buffer_handling(self) -> BufferHandling:
        """StreamBufferHandlingMode, which its client may have written; set here it changes while the stream runs."""
        return BufferHandling(self._get("buffer_handling"))

    @buffer_handling.setter
    def buffer_handling(self, mode: BufferHandling) -> None:
        self._set("buffer_handling", mode)

    def crash(self) -> None:
        """The next exposure ends the process that has the camera open, with SIGSEGV."""
        self._set("crash", 1)

    def wrap_frame_ids(self, first_frame_id: int) -> None:
        """From the next acquisition on, frame ids count from here, and from 65535 to 0."""
        self._set("first_frame_id", first_frame_id)
        self._set("frame_id_bits", 16)

    # What happened

    @property
    def counters(self) -> Counters:
        """What happened since the camera file was created."""
        return Counters(*(self._get(name) for name in Counters.__slots__))

    def exposures(self) -> list[Exposure]:
        """The last frames taken, oldest first, at most 1024; each is there before the host gets its frame."""
        count = self._get("log_count")
        entries = self._header["log"][0].copy()
        found = []
        for position in range(max(0, count - LOG_ENTRIES), count):
            entry = entries[position % LOG_ENTRIES]
            if int(entry["sequence"]) == position + 1:  # else overwritten while we copied
                found.append(_exposure(entry))
        return found

    def _lose(self, link: Link) -> None:
        # The epoch first: a client that sees the new link must also find its connection ended.
        self._set("link_epoch", (self._get("link_epoch") + 1) % 2**32)
        self._set("link", link)

    def _get(self, name: str) -> int:
        return int(self._header[name][0])

    def _set(self, name: str, value: int) -> None:
        # One aligned store, which the producer's atomic loads see whole.
        self._header[name][0] = value


def _encode_name(field: str, name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) >= NAME_BYTES:
        raise CameraSetupError(f"{field} '{name}' has {len(encoded)} bytes", f"use fewer than {NAME_BYTES}")
    return encoded


def _exposure(entry: npt.NDArray[np.void]) -> Exposure:
    return Exposure(
        acquisition=int(entry["acquisition"]),
        frame_id=int(entry["frame_id"]),
        image_index=int(entry["image_index"]),
        timestamp_ns=int(entry["timestamp_ns"]),
        fate=Fate(int(entry["fate"])),
    )
