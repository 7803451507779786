"""The Engine protocol: what turns raw frames into anomaly maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge.frame import Image
from edge.manifest import Preprocessing
from edge.pixel_format import PixelFormat
from edge.slots import Slot


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """Milliseconds that one frame took: to reach the engine's memory, to become the network's input, to be computed."""

    upload_ms: float
    preprocess_ms: float
    infer_ms: float


class Engine(Protocol):
    """Computes slots one after another, in the order they were enqueued, beside the caller's thread.

    One thread calls it.
    """

    @property
    def precision(self) -> str:
        """Numeric precision it computes in."""

    @property
    def artefact_sha256(self) -> str:
        """sha256 of the file it executes."""

    def bind(self, slot: Slot) -> None:
        """Prepare for a slot; once per slot, before the first `enqueue`."""

    def adopt(self, memory: Image | None) -> None:
        """Be told of memory, uint8, that images will lie in from now on, so that it can be made quicker to read.

        It stays as it is until the engine is told of another, or closed; None ends it.
        """

    def enqueue(self, slot: Slot, image: Image, pixel_format: PixelFormat, settings: Preprocessing) -> None:
        """Start on a raw frame; the host hands the slot over to the engine.

        Args:
            slot: owned by the host.
            image: the frame's samples; they must stay as they are until `wait` says that the slot is done.
            pixel_format: how to read them.
            settings: how they become the network's input.

        Raises:
            ImageError: the frame does not fit its format or the settings.
            EngineError: the engine does not take it. Either way the host still owns the slot.
        """

    def wait(self, slot: Slot, timeout_s: float) -> bool:
        """Whether the slot is done within `timeout_s`; if so score, maxima and sums are written, and the host owns it.

        Raises:
            EngineError: the computation failed; the host owns the slot again and its outputs mean nothing.
        """

    def fetch(self, slot: Slot) -> None:
        """Bring the rest of a slot that is done to the host: image, anomaly map and what is above the threshold.

        Raises:
            EngineError: it cannot be brought.
        """

    def timing(self, slot: Slot) -> EngineTiming:
        """What the slot's last frame took; only of a slot that is done."""

    def idle(self) -> None:
        """Be told that there is nothing to do; only while no slot is in use."""

    def close(self) -> None:
        """Finish what was enqueued and free everything."""
